"""A small log, for the tests of this folder."""

import numpy as np

# Two episodes, one of either end, and an unfinished third one; two components, unlike the rows.
LOG = {
    "observation": np.arange(14, dtype=np.float32).reshape(7, 2),
    "action": np.array([0, 1, 2, 0, 1, 2, 0]),
    "reward": np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]),
    "terminated": np.array([0, 0, 1, 0, 0, 0, 0], dtype=bool),
    "truncated": np.array([0, 0, 0, 0, 1, 0, 0], dtype=bool),
}


# Behind an end, marked or that of the file, is what no other row has.
FOLLOWING = {"next_observation": np.roll(LOG["observation"], -1, axis=0)}
FOLLOWING["next_observation"][[2, 4, 6]] = [[102, 103], [104, 105], [106, 107]]


CHANCE = {"behaviour_probability": np.array([0.5, 0.25, 0.25, 0.5, 0.25, 0.25, 0.5])}


def changed(name, row, value, **others):
    array = (LOG | FOLLOWING | CHANCE)[name].astype(np.float64)
    array[row] = value
    return {name: array, **others}
