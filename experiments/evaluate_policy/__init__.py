"""Evaluate a fixed policy."""
