"""A stage of a grid: its runs in this process, or divided among several that learn at one time.

Runs do not depend on each other, so that processes need not wait for one another. Every part has
some runs of each candidate, and so nearly the same work.
"""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from experiments.compare_dqn.grid import Candidate
from experiments.compare_dqn.settings import Comparison
from experiments.compare_dqn.side_by_side import log_of, side_by_side
from experiments.compare_dqn.stage import StageScores, learn_stage, read_stage
from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.processes import interruptible
from experiments.runs.folder.files import read_json, write_json
from experiments.runs.folder.folder_contents import CHECKPOINT, SCORES, folder_name
from experiments.runs.results.phases import PhaseClock


class StagePart(NamedTuple):
    """Runs that one process learns, and their folder."""

    out: Path
    comparison: Comparison
    game: str
    runs: list[tuple[Candidate, int]]


def run_stage(
    comparison: Comparison,
    game: str,
    name: str,
    runs: Sequence[tuple[Candidate, int]],
    clock: PhaseClock,
) -> StageScores:
    """Learn and evaluate some runs, from where they were stopped; or read what they did.

    name: of the stage, a folder in that of the game
    Raises KeyboardInterrupt after a stop, with everything saved that can be.
    """
    folder = comparison.settings.out / folder_name(game) / name
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / SCORES).exists():
        return read_stage(folder, runs)
    count = min(comparison.settings.parallel, len(runs))
    _check_begun(folder, count, comparison.settings.parallel)
    if count == 1:
        with interruptible() as stopping:
            learn_stage(comparison, game, folder, runs, stopping, clock)
    else:
        clock.switch("learn")
        parts = [
            StagePart(folder / _part_name(i, count), comparison, game, list(runs[i::count]))
            for i in range(count)
        ]
        _learn_parts(folder, parts)
    return read_stage(folder, runs)


def _part_name(number: int, count: int) -> str:
    return f"part-{number + 1}-of-{count}"


def _check_begun(folder: Path, count: int, given: int) -> None:
    """Raise UsageError where a stage was begun with another number of processes."""
    begun = {int(path.name.rpartition("-")[2]) for path in folder.glob("part-*-of-*/")}
    begun |= {1} if (folder / CHECKPOINT).exists() else set()
    if others := begun - {count}:
        raise UsageError(
            f"--parallel {given} differs from the {min(others)} that {folder} was begun with"
        )


def _learn_parts(folder: Path, parts: Sequence[StagePart]) -> None:
    """Learn all parts at the same time, and put their scores together."""
    for part in parts:
        part.out.mkdir(exist_ok=True)
    missing = [part for part in parts if not (part.out / SCORES).exists()]
    with contextlib.closing(side_by_side(missing, len(parts), _begun, _learn_part)) as done:
        for part in done:
            print(f"{part.out}: done", flush=True)
    found = [read_json(part.out / SCORES) for part in parts]
    write_json(folder / SCORES, _together(found))


def _begun(part: StagePart) -> None:
    print(f"{part.game}: {len(part.runs)} runs in {part.out}, with a log in {log_of(part)}")


def _learn_part(part: StagePart, stopping: Callable[[], bool], _: int) -> None:
    first, seed = part.runs[0]
    run = part.comparison.member(part.game, {**first._asdict(), "seed": seed})
    torch.set_num_threads(run.threads or 1)
    learn_stage(part.comparison, part.game, part.out, part.runs, stopping, PhaseClock())


def _together(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the scores of several parts as those of one stage."""
    evaluations = [
        {"step": each[0]["step"], "scores": [row for one in each for row in one["scores"]]}
        for each in zip(*(part["evaluations"] for part in parts), strict=True)
    ]
    return {
        "protocol": parts[0]["protocol"],
        "run_steps_per_second": sum(part["run_steps_per_second"] or 0 for part in parts),
        "runs": [run for part in parts for run in part["runs"]],
        "evaluations": evaluations,
    }
