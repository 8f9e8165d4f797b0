"""Logged data: transitions from files."""
