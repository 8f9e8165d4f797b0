"""One step of Algorithm 1, populations of runs, sampling, and what shapes a step."""
