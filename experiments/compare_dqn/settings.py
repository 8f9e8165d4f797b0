"""The settings of a comparison of arms, and those of each of its runs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.common_settings import FigureSettings
from experiments.runs.command_line.program import flags_given
from experiments.runs.command_line.requirements import count, one_of, several
from experiments.runs.command_line.settings import (
    idle_flags,
    setting_fields,
    settings_from,
)
from experiments.runs.folder.run_folder import folder_name
from experiments.train_dqn.defaults import defaults_in_words
from experiments.train_dqn.settings import (
    DQN_ARMS,
    AgentSettings,
    DQNSettings,
    check_target_period,
    dqn_settings,
    idle_agent_settings,
)


@dataclass(frozen=True, kw_only=True)
class ComparisonSettings(FigureSettings):
    """Compare arms of a deep Q-network on several games over several seeds.

    Arms: split (body at --body-step, head at --head-step), body (both at --body-step), head (both
    at --head-step), opposite (exchanged). All other flags are those of train_dqn and hold for every
    run; what is not given has the default of each game.
    """

    program: ClassVar[str] = "python -m experiments.compare_dqn"
    may_differ: ClassVar[tuple[str, ...]] = ("parallel", "out", "resume", "vector")

    problem: Annotated[tuple[str, ...], several]
    """One or several environments; see python -m experiments.train_dqn --help."""
    arm: Annotated[tuple[str, ...], several, one_of(DQN_ARMS)] = ("split", "body", "head")
    """The arms to compare."""
    seeds: Annotated[int, count(1, 1000)] = 3
    """Seeds per game and arm: 0, 1, 2, …; arms of one seed share initial values and games."""
    random_games: Annotated[int, count(1, 100_000)] = 100
    """Games of the random policy that the arms are compared with."""
    parallel: Annotated[int, count(1, 1000)] = 1
    """Runs at a time, each in a process of its own with a log next to its folder; they share the
    processor's threads unless --threads says how many each has."""
    out: Path = Path("runs/compare_dqn")
    """Folder of all runs, with the common figure, table and summary."""
    resume: bool = False
    """Continue the comparison in --out; only --parallel may differ."""


@dataclass(frozen=True)
class Comparison:
    """A comparison and what was given for all of its runs, {field: value}."""

    settings: ComparisonSettings
    shared: Mapping[str, Any]

    def run(self, game: str, arm: str, seed: int) -> DQNSettings:
        """Return the settings of one run."""
        out = self.settings.out / folder_name(game) / arm / f"seed-{seed}"
        own = {"problem": game, "arm": arm, "seed": seed, "out": out}
        return dqn_settings({**self.shared, **own})

    def stored(self) -> dict[str, Any]:
        """Return the settings as they are written down and compared on resume."""
        own = asdict(self.settings)
        kept = {name: own[name] for name in own if name not in self.settings.may_differ}
        not_given = dict.fromkeys(setting_fields(AgentSettings))
        return {**not_given, **self.shared, **kept}


def read_comparison(argv: Sequence[str]) -> Comparison:
    """Make the settings of a command line; UsageError for a flag without effect on any run."""
    given = flags_given([ComparisonSettings, AgentSettings], argv, defaults_in_words())
    own = setting_fields(ComparisonSettings)
    settings = settings_from(
        ComparisonSettings, {name: value for name, value in given.items() if name in own}
    )
    shared = {name: value for name, value in given.items() if name not in own}
    comparison = Comparison(settings, shared)
    runs = [comparison.run(game, settings.arm[0], 0) for game in settings.problem]
    idle = [idle_flags(run, idle_agent_settings(run)) for run in runs]
    for name in idle[0]:
        if all(name in each for each in idle):
            raise UsageError(idle[0][name])
    check_target_period(runs[0], shared)
    return comparison
