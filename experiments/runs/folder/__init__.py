"""A run is a folder: its files, its lock, its checkpoint, and the settings it was started with."""
