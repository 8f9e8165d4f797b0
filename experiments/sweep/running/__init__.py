"""What a study runs: its configurations in shards, their memory and their engines."""
