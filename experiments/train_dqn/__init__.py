"""Train a deep Q-network with split learning rates."""
