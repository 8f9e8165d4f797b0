"""Compare arms of deep Q-learning: python -m experiments.compare_dqn --problem NAME [NAME …].

Every game is learned with every arm from every seed, one run after another, each in a folder
OUT/GAME/ARM/seed-N. Started again with --resume, finished runs are kept and others go on.
"""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.dqn_training import Player, play
from experiments.command_line import (
    Stopped,
    UsageError,
    check_choice,
    check_positive_integer,
    check_several,
    main,
    parse,
    resume_command,
)
from experiments.dqn_comparison import (
    Finished,
    comparison_table,
    curves,
    protocols_differ,
    read_finished,
    summary_of,
)
from experiments.dqn_figures import comparison_figure
from experiments.dqn_plan import games, network_of, protocol_line
from experiments.dqn_settings import ARMS, CommonSettings, filled
from experiments.dqn_settings import Settings as OneRun
from experiments.run_folder import (
    CONFIG,
    FIGURE,
    SUMMARY,
    configuration,
    folder_name,
    holds_run,
    read_json,
    write_json,
)
from experiments.train_dqn import train

PROGRAM = "python -m experiments.compare_dqn"
RANDOM_FILE = "random.json"


@dataclass(kw_only=True)
class Settings(CommonSettings):
    """Compare arms of a deep Q-network on several games over several seeds.

    Arms: split (body at --body-step, head at --head-step), body (both at --body-step), head (both
    at --head-step), opposite (exchanged). All other flags are those of train_dqn and hold for every
    run; what is not given has the default of each game.
    """

    problem: tuple[str, ...]
    """One or several environments; see python -m experiments.train_dqn --help."""
    arm: tuple[str, ...] = ("split", "body", "head")
    """The arms to compare."""
    seeds: int = 3
    """Seeds a game and arm: 0, 1, 2, …; arms of one seed share initial values and games."""
    random_games: int = 100
    """Games of the random policy that stand beside the arms."""
    out: Path = Path("runs/compare_dqn")
    """Folder of all runs, with the common figure, table and summary."""
    resume: bool = False
    """Go on with the comparison in --out, with the same flags."""


_OWN = ("problem", "arm", "seeds", "random_games", "out", "resume")


def _run(settings: Settings, game: str, arm: str, seed: int) -> OneRun:
    common = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if field.name not in _OWN
    }
    out = settings.out / folder_name(game) / arm / f"seed-{seed}"
    return OneRun(problem=game, arm=arm, seed=seed, out=out, **common)


def _check(settings: Settings) -> None:
    check_several("--problem", settings.problem)
    check_several("--arm", settings.arm)
    for arm in settings.arm:
        check_choice("--arm", arm, ARMS)
    check_positive_integer("--seeds", settings.seeds)
    check_positive_integer("--random-games", settings.random_games)
    for game in settings.problem:
        values = filled(_run(settings, game, settings.arm[0], 0))
        environments = games(values, 1)
        try:
            network_of(values, environments)
        finally:
            environments.close()


def _claim(settings: Settings) -> None:
    """Make OUT ready; UsageError where it holds something else than this comparison."""
    out = settings.out
    stored: dict[str, Any] = dataclasses.asdict(settings)
    stored = {name: value for name, value in stored.items() if name not in ("out", "resume")}
    stored = {name: list(v) if isinstance(v, tuple) else v for name, v in stored.items()}
    if out.exists() and any(out.iterdir()):
        if not settings.resume:
            raise UsageError(f"--out {out} is not empty; give another folder, or --resume")
        if not holds_run(out):
            raise UsageError(f"--out {out} holds no comparison to resume")
        before = read_json(out / CONFIG).get("comparison", {})
        for name, value in stored.items():
            if before.get(name) != value:
                flag = "--" + name.replace("_", "-")
                raise UsageError(
                    f"{flag} {value} differs from the {before.get(name)} of the comparison in {out}"
                )
        return
    if settings.resume:
        raise UsageError(f"--out {out} holds no comparison to resume")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / CONFIG, configuration({"comparison": stored}))


def _random_score(settings: Settings, game: str) -> dict[str, Any]:
    """Return the random policy's scores of whole games, played once and then read again."""
    path = settings.out / folder_name(game) / RANDOM_FILE
    if path.exists():
        return dict(read_json(path))
    values = filled(_run(settings, game, settings.arm[0], 0))
    count = min(settings.random_games, 10)
    environments = games(values, count, evaluation=True)
    try:
        player = Player(network_of(values, environments))
        longest = values["evaluation_longest"]
        scores: list[float] = []
        while len(scores) < settings.random_games:
            scores += play(player, environments, 1.0, 77_000 + len(scores), longest)[0]
    finally:
        environments.close()
    result = {"mean": float(np.mean(scores)), "games": len(scores), "scores": scores}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result)
    return result


def compare(settings: Settings) -> None:
    """Run what is missing, and write the figure and the table of what is there."""
    _check(settings)
    _claim(settings)
    finished: dict[str, dict[str, list[Finished]]] = {}
    random = {game: _random_score(settings, game)["mean"] for game in settings.problem}
    # A seed at a time, so that an interrupted comparison has the arms at an equal number of seeds.
    for seed in range(settings.seeds):
        for game in settings.problem:
            for arm in settings.arm:
                one = _run(settings, game, arm, seed)
                assert one.out is not None
                if not (one.out / SUMMARY).exists():
                    print(f"{game}, {arm}, seed {seed}: {one.out}")
                    train(dataclasses.replace(one, resume=holds_run(one.out)))
                finished.setdefault(game, {}).setdefault(arm, []).append(read_finished(one.out))
        if warning := protocols_differ(finished):
            print(f"warning: {warning}", file=sys.stderr)
        _report(settings, finished, random, seed + 1)
    print(f"\n{comparison_table(finished, random)}\n\nfigure: {settings.out / FIGURE}")


def _report(
    settings: Settings,
    finished: dict[str, dict[str, list[Finished]]],
    random: dict[str, float],
    seeds: int,
) -> None:
    drawn = {
        game: {arm: curves(runs) for arm, runs in arms.items()} for game, arms in finished.items()
    }
    first = next(iter(next(iter(finished.values())).values()))[0]
    note = {name: value for name, value in first.protocol.items() if name != "environment"}
    comparison_figure(settings.out / FIGURE, drawn, random, protocol_line(note), seeds)
    write_json(settings.out / SUMMARY, summary_of(finished, random))


def compare_dqn(argv: Sequence[str]) -> None:
    """Run the program; see the module's description."""
    settings = parse(Settings, argv, PROGRAM, Settings.__doc__ or "")
    try:
        compare(settings)
    except KeyboardInterrupt:
        raise Stopped(f"stopped; go on with: {resume_command(PROGRAM, argv)}", 130) from None


if __name__ == "__main__":
    sys.exit(main(compare_dqn))
