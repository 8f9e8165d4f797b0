"""Finite Markov decision processes, on which every error is exact."""
