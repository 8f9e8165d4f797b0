"""What every program shares: command line, run folder, results and recording."""
