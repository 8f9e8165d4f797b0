"""Environments for an agent that acts."""
