"""The runs of a comparison: one after another or several at a time, and what is shown of them."""

import contextlib
import dataclasses
import itertools
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from experiments.compare_dqn.comparison import (
    Finished,
    comparison_table,
    curves,
    protocols_differ,
    read_finished,
    summary_of,
)
from experiments.compare_dqn.folder import comparison_folder
from experiments.compare_dqn.memory import check_replays, runs_at_a_time
from experiments.compare_dqn.random_policy import random_score
from experiments.compare_dqn.settings import Comparison, ComparisonSettings
from experiments.compare_dqn.side_by_side import side_by_side
from experiments.runs.folder.files import write_json
from experiments.runs.folder.folder_contents import FIGURE, SUMMARY, holds_run
from experiments.runs.results.phases import PhaseClock, rounded
from experiments.runs.results.report import number
from experiments.train_dqn.build import protocol_line
from experiments.train_dqn.figures import comparison_figure
from experiments.train_dqn.settings import DQNSettings
from experiments.train_dqn.train import train


def _in_turn(runs: Sequence[DQNSettings]) -> Generator[DQNSettings, None, None]:
    for one in runs:
        _begun(one)
        train(one)
        yield one


def _at_once(runs: Sequence[DQNSettings], count: int) -> Generator[DQNSettings, None, None]:
    """Train several runs at a time, and say what each came to."""
    begun = time.monotonic()
    with contextlib.closing(side_by_side(runs, count, _begun, train)) as done:
        for number_done, one in enumerate(done, 1):
            score = number(read_finished(_folder(one)).scores[-1])
            minutes = (time.monotonic() - begun) / 60
            print(
                f"{one.problem}, {one.arm}, seed {one.seed}: done, score {score}; "
                f"{number_done} of {len(runs)} runs after {minutes:.0f} min",
                flush=True,
            )
            yield one


def _begun(one: DQNSettings) -> None:
    print(f"{one.problem}, {one.arm}, seed {one.seed}: {one.out}", flush=True)


def _folder(one: DQNSettings) -> Path:
    assert one.out is not None
    return one.out


def _finished(runs: Sequence[DQNSettings]) -> dict[str, dict[str, list[Finished]]]:
    found: dict[str, dict[str, list[Finished]]] = {}
    for one in runs:
        arms = found.setdefault(one.problem, {})
        arms.setdefault(one.arm, []).append(read_finished(_folder(one)))
    return found


def compare(comparison: Comparison, clock: PhaseClock) -> None:
    """Run what is missing, and write the figure and the table of what is there.

    A seed after the other, so that an interrupted comparison has the arms at an equal number.
    """
    check_replays(comparison)
    with comparison_folder(comparison):
        _compare(comparison, clock)


def _compare(comparison: Comparison, clock: PhaseClock) -> None:
    settings = comparison.settings
    clock.switch("measure")
    random = {game: random_score(comparison, game)["mean"] for game in settings.problem}
    seeds = [
        [comparison.run(game, arm, seed) for game in settings.problem for arm in settings.arm]
        for seed in comparison.seeds
    ]
    missing = [
        dataclasses.replace(one, resume=holds_run(_folder(one)))
        for each in seeds
        for one in each
        if not _is_done(one)
    ]
    at_a_time = runs_at_a_time(settings)
    steps = _in_turn(missing) if at_a_time == 1 else _at_once(missing, at_a_time)
    reported = 0
    clock.switch("learn")
    with contextlib.closing(steps):
        for _ in itertools.chain(steps, (None,)):
            whole = itertools.takewhile(lambda each: all(map(_is_done, each)), seeds)
            if (complete := sum(1 for _ in whole)) > reported:
                finished = _finished([one for each in seeds[:complete] for one in each])
                with clock.phase("write"):
                    _report(settings, finished, random, complete, clock)
                reported = complete
    print(f"\n{comparison_table(finished, random)}\n\nfigure: {settings.out / FIGURE}")


def _is_done(one: DQNSettings) -> bool:
    return (_folder(one) / SUMMARY).exists()


def _report(
    settings: ComparisonSettings,
    finished: dict[str, dict[str, list[Finished]]],
    random: dict[str, float],
    seeds: int,
    clock: PhaseClock,
) -> None:
    if warning := protocols_differ(finished):
        print(f"warning: {warning}", file=sys.stderr)
    drawn = {
        game: {arm: curves(runs) for arm, runs in arms.items()} for game, arms in finished.items()
    }
    first = next(iter(next(iter(finished.values())).values()))[0]
    note = {name: value for name, value in first.protocol.items() if name != "environment"}
    comparison_figure(
        settings.out / FIGURE, drawn, random, protocol_line(note), seeds, settings.vector
    )
    # Of this call: the runs have accounts of their own.
    seconds = {"seconds": rounded(clock.seconds())}
    write_json(settings.out / SUMMARY, summary_of(finished, random) | seconds)
