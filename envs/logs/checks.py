"""Checks of single arrays of a log, each refusal one line that names file, array and row."""

import numpy as np

# Beyond it a number is infinite in float32.
LARGEST_NUMBER = 3e38
# Rows that are looked at at a time.
ROWS_AT_ONCE = 4096


def blocks(array: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Return an array in blocks of rows, each with the number of its first row."""
    return [
        (begin, array[begin : begin + ROWS_AT_ONCE]) for begin in range(0, len(array), ROWS_AT_ONCE)
    ]


def check_shape(source: str, name: str, array: np.ndarray, observation: np.ndarray) -> None:
    """Raise ValueError for an array whose shape does not fit the observations'."""
    rows = list(observation.shape)
    if name == "observation":
        if array.ndim < 2 or 0 in array.shape[1:]:
            raise ValueError(
                f"{source}: observation has the shape {rows}; it must be [time, …], with [time, 1] "
                "for a single number"
            )
        if not len(array):
            raise ValueError(f"{source} is empty: observation has the shape {rows}")
        return
    expected = rows if name == "next_observation" else rows[:1]
    shape = list(array.shape)
    if shape == expected or (name == "action" and shape[:1] == expected and 0 not in shape):
        return
    said = f"{source}: {name} has the shape {shape}; it must be {expected}"
    if array.ndim and len(array) < rows[0]:
        said += f": row {len(array)} is missing"
    elif array.ndim and len(array) > rows[0]:
        said += f", as observation has rows: row {rows[0]} is one too many"
    raise ValueError(said)


def check_rows(source: str, name: str, array: np.ndarray, right: np.ndarray, must: str) -> None:
    """Raise ValueError naming the first row of an array that is not right, and what it must be."""
    if not right.all():
        row = int(np.argmin(right))
        raise ValueError(f"{source}: {name} in row {row} is {array[row]}; {must}")


def check_finite(source: str, name: str, array: np.ndarray, rows: np.ndarray | None = None) -> None:
    """Raise ValueError naming the first number that is not finite; rows: their numbers."""
    if array.dtype.kind in "biu":
        return
    for begin, block in blocks(array):
        flat = block.reshape(len(block), -1)
        right = np.abs(flat) <= LARGEST_NUMBER
        if right.all():
            continue
        place, component = np.argwhere(~right)[0]
        row = begin + place if rows is None else rows[begin + place]
        where = f"in row {row}" if array.ndim == 1 else f"in row {row}, component {component},"
        raise ValueError(
            f"{source}: {name} {where} is {flat[place, component]}; it must be finite, up to "
            f"{LARGEST_NUMBER:g}"
        )
