"""Methods that learn a value function from a whole log: the baselines of Algorithm 1, and more.

None of them is a rule of three step sizes: they see all transitions at once, several times.
"""
