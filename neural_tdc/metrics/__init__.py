"""The errors of value functions: exact on a finite chain, estimated elsewhere."""
