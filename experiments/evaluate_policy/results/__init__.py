"""What is said and drawn at the end of policy evaluation."""
