"""What runs have measured: histories, statistics over runs, tables and figures."""
