"""Compare closed forms of linear networks after one and two steps with simulation."""
