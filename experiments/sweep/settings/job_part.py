"""Which part of a study a job runs, as --shard I/N says it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

AnyPiece = TypeVar("AnyPiece")


class JobPart(NamedTuple):
    """One of `jobs` parts of a study, numbered from 1."""

    number: int
    jobs: int

    def folder(self, out: Path) -> Path:
        """Return the folder of this part of the study in a folder."""
        return out.with_name(f"{out.name}-{self.number}-of-{self.jobs}")

    def of(self, pieces: Sequence[AnyPiece]) -> list[AnyPiece]:
        """Return the shards of this part."""
        return list(pieces[self.number - 1 :: self.jobs])


def job_part(text: str) -> JobPart:
    """Read I/N; ValueError for anything else."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"{text!r} is not I/N with I from 1 to N, such as 2/8")
    return JobPart(int(match[1]), int(match[2]))
