"""The runs: one rule, one method, or the search for the best value function."""
