"""The reader of tables, CSV and Parquet: one row per step, one column per number.

The columns `observation_0`, `observation_1`, … are the array `observation`. In a Parquet file a
column may hold a list of equal length per row instead.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from envs.logs.columns import Columns, numbered
from envs.logs.npz import check_file

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
# What stands for no number; behind an end next observations may be missing.
_MISSING = ("", "nan", "NaN", "NA", "null", "None")


@contextlib.contextmanager
def open_table(source: str) -> Iterator[Columns]:
    """Open a table. Raises ValueError in one line for a file that cannot be read."""
    path = Path(source)
    check_file(path)
    table = _table(path)
    groups = _groups(table.column_names)
    for base, columns in groups.items():
        lacking = {*range(len(columns))} - {number for number, _ in columns}
        if lacking:
            listed = ", ".join(name for _, name in columns)
            raise ValueError(f"{path} has the columns {listed} and no {base}_{min(lacking)}")

    def read(name: str) -> np.ndarray:
        if name in table.column_names:
            return _column(path, table, name)
        return np.stack([_column(path, table, each) for _, each in sorted(groups[name])], axis=1)

    def size(name: str) -> int:
        columns = [(0, name)] if name in table.column_names else groups.get(name, [])
        return sum(table.column(each).nbytes for _, each in columns)

    yield Columns(source, (*table.column_names, *groups), read, size, of_scalars=True)


def _groups(names: list[str]) -> dict[str, list[tuple[int, str]]]:
    """Return {observation: [(0, observation_0), …]} for every array that is no column itself."""
    groups: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        found = numbered(name)
        if found is not None and found[0] not in names:
            groups.setdefault(found[0], []).append((found[1], name))
    return groups


def _table(path: Path) -> Any:
    try:
        import pyarrow
        from pyarrow import csv, parquet
    except ImportError:
        raise ValueError(
            f"{path} needs the package pyarrow, which is not installed: pip install pyarrow"
        ) from None
    suffixes = [each.lower() for each in path.suffixes]
    kind = next((each for each in suffixes if each in _SEPARATORS), None)
    try:
        if kind is None:
            table = parquet.read_table(path)
        else:
            table = csv.read_csv(
                path,
                parse_options=csv.ParseOptions(delimiter=_SEPARATORS[kind]),
                convert_options=csv.ConvertOptions(null_values=_MISSING),
            )
        # A name in another encoding fails here.
        names = [name.strip() for name in table.column_names]
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as a table: {said:.200}") from None
    if len(names) == 1 and kind is not None and any(other in names[0] for other in ";\t|, "):
        raise ValueError(
            f"{path} has a single column {names[0]!r}: columns are separated by commas in .csv "
            "and by tabs in .tsv"
        )
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ValueError(f"{path} has several columns named {min(repeated)}")
    return table.rename_columns(names)


def _column(path: Path, table: Any, name: str) -> np.ndarray:
    """Return a column in numbers, NaN where there is none."""
    import pyarrow
    from pyarrow import compute

    column = table.column(name)
    types = pyarrow.types
    if types.is_list(column.type) or types.is_fixed_size_list(column.type):
        lengths = compute.list_value_length(column).to_numpy()
        if not (lengths == lengths[0]).all():
            row = int(np.argmax(lengths != lengths[0]))
            raise ValueError(
                f"{path}: {name} has lists of {lengths[0]} numbers, and of {lengths[row]} in row "
                f"{row}"
            )
        flat = _numbers(path, name, compute.list_flatten(column))
        return flat.reshape(len(column), -1)
    return _numbers(path, name, column)


def _numbers(path: Path, name: str, column: Any) -> np.ndarray:
    import pyarrow
    from pyarrow import compute

    if pyarrow.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
        # Booleans with spaces around them, or in capitals, are texts to the reader.
        try:
            column = compute.utf8_trim_whitespace(column).cast(pyarrow.bool_())
        except pyarrow.ArrowInvalid:
            row, value = _first_text(column)
            said = f"{path}: {name} in row {row} is {value!r}; it must be a number"
            raise ValueError(said) from None
    if pyarrow.types.is_boolean(column.type):
        column = column.cast(pyarrow.int8())
    elif pyarrow.types.is_decimal(column.type):
        column = column.cast(pyarrow.float64())
    array = column.to_numpy()
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{path}: {name} is a column of {column.type}; it must be one of numbers")
    # Torch wants arrays that can be written to; Arrow's own memory cannot.
    return array if array.flags.writeable else array.copy()


def _first_text(column: Any) -> tuple[int, str]:
    for row, value in enumerate(column.to_pylist()):
        try:
            float(value)
        except (TypeError, ValueError):
            if value is not None:
                return row, value
    return 0, str(column[0].as_py())
