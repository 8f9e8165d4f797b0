"""Command lines: settings as data, their checks, the help page, and how a program ends."""
