"""Study step sizes."""
