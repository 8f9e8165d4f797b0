"""What a learning rule is, and every rule of the tables."""
