"""The programs, each `python -m experiments.NAME`."""

import gc

# The modules of torch, its compiler and matplotlib make a million objects that live until the end.
# At Python's own threshold of 700 new objects a quarter of the seconds of these imports goes into
# looking for garbage among them.
gc.set_threshold(10_000)
