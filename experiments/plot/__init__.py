"""Draw finished runs again."""
