"""The settings of logged data, of all programs that learn from it."""

from dataclasses import dataclass
from typing import Annotated

from experiments.runs.command_line.requirements import between, read_by, several
from experiments.runs.command_line.settings import CheckedSettings


def named_column(text: str) -> tuple[str, str]:
    """Read array=NAME[,NAME…]; ValueError for anything else."""
    array, equals, names = text.partition("=")
    if not (array and equals and all(each.strip() for each in names.split(","))):
        raise ValueError(
            f"{text!r} does not name one: give the log's array and its name in the file, such as "
            "reward=rew, or the names that make up its components, as observation=x,y"
        )
    return array, names


@dataclass(frozen=True, kw_only=True)
class DataSettings(CheckedSettings):
    """Logged data in place of a problem (docs/guide/logs.md)."""

    data: Annotated[tuple[str, ...] | None, several] = None
    """In place of --problem: one or several files of logged data, .npz, .hdf5 (also D4RL's), .csv
    or .parquet, or minari:ID of the local store. With arrays or columns observation, reward,
    terminated, truncated and, if need be, action, next_observation, behaviour_probability,
    discount, ratio, episode."""
    columns: Annotated[tuple[str, ...], read_by(named_column)] = ()
    """For --data: what arrays are called in the file, as in reward=rew, or which columns make them
    up, as in observation=x,y."""
    cumulant: str | None = None
    """For --data: the array or column that is summed up in place of the reward."""
    held_out_fraction: Annotated[float, between(0, 1)] = 0.2
    """With --data: the last part of it, which is held out for measuring errors."""

    @property
    def data_flags(self) -> str:
        """Return --data as it was given; "" where it was not."""
        return "" if self.data is None else f"--data {' '.join(self.data)}"
