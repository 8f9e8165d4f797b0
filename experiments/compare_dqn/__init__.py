"""Compare arms of deep Q-learning."""
