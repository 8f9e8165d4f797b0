"""What comes out of a study: rows, selections, tables and figures."""
