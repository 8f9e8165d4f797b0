"""What every program shares: command line, run folder, measurements, tables and figures."""
