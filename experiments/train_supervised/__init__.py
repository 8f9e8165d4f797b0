"""Train networks at split learning rates."""
