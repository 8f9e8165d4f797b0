"""Measure the convergence rates of stochastic approximation on two time scales."""
