"""The search for the best value function: families of candidates, their scores, and resamples."""
