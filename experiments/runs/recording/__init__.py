"""What a program writes while it works, and how it is resumed from that."""
