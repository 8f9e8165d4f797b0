"""Deep Q-learning with split learning rates."""
