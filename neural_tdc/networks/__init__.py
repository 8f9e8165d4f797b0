"""Bodies, their pure functions, and the check of a user's module."""
