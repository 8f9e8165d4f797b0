"""What the settings stand for: problem, policies, data, rules and sizes."""
