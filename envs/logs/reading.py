"""Logs from files of all kinds: a reader by the ending of the name, several files as one log."""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from envs.logs.columns import Columns, check_size, found_names, lacking, read_array
from envs.logs.cuts import Successors
from envs.logs.hdf5 import open_hdf5
from envs.logs.log import OPTIONAL, REQUIRED, Log, checked_log
from envs.logs.minari_store import PREFIX, open_minari, stored_at
from envs.logs.npz import open_npz
from envs.logs.tables import open_table
from envs.names import closest_names

# One reader per kind of file, by the ending of the name; others are tried as .npz.
READERS: dict[str, Callable[[str], AbstractContextManager[Columns]]] = {
    ".npz": open_npz,
    ".hdf5": open_hdf5,
    ".h5": open_hdf5,
    ".csv": open_table,
    ".csv.gz": open_table,
    ".tsv": open_table,
    ".parquet": open_table,
}


@dataclass(frozen=True)
class Reading:
    """How the arrays of a log are found in a file.

    named:    {array of the log: its name in the file}, or names separated by commas that make up
        its components; what is not named is looked for, see `envs.logs.columns`
    cumulant: the name of what is summed up in place of the reward
    """

    named: Mapping[str, str] = field(default_factory=dict)
    cumulant: str | None = None


def read_log(source: Path | str, reading: Reading | None = None) -> Log:
    """Read and check logged data: a file, by the reader of its ending, or `minari:ID`.

    Raises ValueError in one line that names file, array and row for anything missing or wrong;
    `NotInFileError` for arrays that are not there.
    """
    source, reading = str(source), reading or Reading()
    with _reader(source)(source) as columns:
        arrays = _log_arrays(columns, reading)
        log = checked_log(source, arrays)
        if columns.tail is not None:
            last = columns.tail.row
            open_rows = ~log.terminated[last]
            log = log._replace(
                successors=Successors(last[open_rows], columns.tail.observation[open_rows])
            )
        return log._replace(bounds=columns.bounds)


def read_logs(sources: Sequence[Path | str], reading: Reading | None = None) -> Log:
    """Read several files, one behind the other, as one log; an episode ends where a file does.

    Raises ValueError as `read_log`, and where the files do not hold the same arrays.
    """
    whole = read_log(sources[0], reading)
    for source in sources[1:]:
        whole = _joined(whole, read_log(source, reading))
    return whole


def log_name(sources: Sequence[Path | str]) -> str:
    """Return what logged data is called, for a folder of results and in figures."""
    return "+".join(dict.fromkeys(_stem(str(each)) for each in sources))


def _stem(source: str) -> str:
    """Return what a file is called without its folder and its ending, for a folder of results."""
    if source.startswith(PREFIX):
        return source.removeprefix(PREFIX).strip("/").replace("/", "-")
    name = Path(source).name
    ending = next((each for each in READERS if name.lower().endswith(each)), Path(name).suffix)
    return name.removesuffix(name[len(name) - len(ending) :]) or name


def source_files(source: Path | str) -> list[Path]:
    """Return the files that logged data is read from."""
    source = str(source)
    if source.startswith(PREFIX):
        folder = stored_at(source)
        return sorted(path for path in folder.rglob("*") if path.is_file())
    return [Path(source)]


def _reader(source: str) -> Callable[[str], AbstractContextManager[Columns]]:
    if source.startswith(PREFIX):
        return open_minari
    lower = source.lower()
    known = next((READERS[each] for each in READERS if lower.endswith(each)), None)
    if known is None and _is_file(source) and not zipfile.is_zipfile(source):
        raise ValueError(
            f"{source} is not a .npz file; other kinds are known by their endings: "
            f"{', '.join(READERS)}"
        )
    return known or open_npz


def _is_file(source: str) -> bool:
    try:
        return Path(source).is_file()
    except OSError:  # Such as a name that is too long.
        return False


def _log_arrays(columns: Columns, reading: Reading) -> dict[str, np.ndarray]:
    """Return the arrays of a log that a file has, under the names of `envs.logs.log`."""
    known = (*REQUIRED, *OPTIONAL)
    for name in reading.named:
        if name not in known:
            near = closest_names(name, known)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"a log has no array {name}; it has {', '.join(known)}{hint}")
    given = dict(reading.named)
    if reading.cumulant is not None:
        given["reward"] = reading.cumulant
    found = {name: names for name in known if (names := found_names(columns, name, given))}
    if columns.tail is not None:
        found.pop("next_observation", None)
    missing = [name for name in REQUIRED if name not in found]
    cuts = columns.tail is not None or not {"truncated", "next_observation", "episode"}.isdisjoint(
        found
    )
    if not cuts:
        missing.append("truncated")
    if missing:
        cut = "truncated (or in its place episode, or next_observation)"
        raise lacking(columns, missing, ", ".join((*REQUIRED, cut)))
    check_size(columns, [each for names in found.values() for each in names])
    return {name: read_array(columns, name, names) for name, names in found.items()}


def _joined(whole: Log, log: Log) -> Log:
    """Put a log behind another one; its arrays are released as they are copied."""
    source = f"{whole.source} {log.source}"
    for name in ("action", "successors", "behaviour_probability", "discount", "ratio"):
        if (getattr(whole, name) is None) != (getattr(log, name) is None):
            has, lacks = (log, whole) if getattr(whole, name) is None else (whole, log)
            told = "next_observation" if name == "successors" else name
            raise ValueError(
                f"{has.source} has {told}, and {lacks.source} has none: logs that are taken "
                "together must have the same"
            )
    for name in ("observation", "action"):
        first, second = getattr(whole, name), getattr(log, name)
        if first is not None and (first.shape[1:] != second.shape[1:]):
            raise ValueError(
                f"{log.source}: {name} has the shape {list(second.shape)}, and {whole.source} has "
                f"{list(first.shape)}: logs that are taken together must have the same"
            )
    length = len(whole.reward)
    truncated = np.concatenate([whole.truncated, log.truncated])
    truncated[length - 1] |= not whole.terminated[-1]
    successors = None
    if whole.successors is not None and log.successors is not None:
        successors = Successors(
            np.concatenate([whole.successors.row, length + log.successors.row]),
            np.concatenate([whole.successors.observation, log.successors.observation]),
        )

    def both(name: str) -> np.ndarray | None:
        first, second = getattr(whole, name), getattr(log, name)
        return None if first is None else np.concatenate([first, second])

    return Log(
        source,
        appended(whole.observation, log.observation),
        both("action"),
        np.concatenate([whole.reward, log.reward]),
        np.concatenate([whole.terminated, log.terminated]),
        truncated,
        successors,
        both("behaviour_probability"),
        both("discount"),
        both("ratio"),
        whole.bounds,
        (*whole.notes, *log.notes),
    )


def appended(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return one array behind the other; the first is used up, so that nothing large is copied."""
    length = len(first)
    if first.dtype != second.dtype or first.base is not None or not first.flags.c_contiguous:
        return np.concatenate([first, second])
    # Grown in place; nobody else holds it.
    first.resize((length + len(second), *first.shape[1:]), refcheck=False)
    first[length:] = second
    return first
