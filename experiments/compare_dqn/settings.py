"""The settings of a comparison of arms, and those of each of its runs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from agents.dqn.objectives import CONTROL_RULES
from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.common_settings import FigureSettings
from experiments.runs.command_line.program import flags_given
from experiments.runs.command_line.requirements import above, count, one_of, several
from experiments.runs.command_line.settings import (
    flag_of,
    idle_flags,
    setting_fields,
    settings_from,
)
from experiments.runs.folder.folder_contents import folder_name
from experiments.train_dqn.agent_settings import AgentSettings
from experiments.train_dqn.defaults import defaults_in_words
from experiments.train_dqn.reading import (
    check_rates,
    check_target_period,
    idle_agent_settings,
)
from experiments.train_dqn.settings import DQN_ARMS, DQNSettings, dqn_settings

# Seeds of the selection of a grid begin here: those of the report are below.
FIRST_SELECTION_SEED = 1000


@dataclass(frozen=True, kw_only=True)
class ComparisonSettings(FigureSettings):
    """Compare arms of a deep Q-network on several games over several seeds.

    Arms: split (the body learns at --body-step, the head at --head-step), body (both at
    --body-step), head (both at --head-step), opposite (the body at --head-step, the head at
    --body-step). All other flags are those of train_dqn and hold for every run. A flag that is not
    given has the default of each game.

    With --grid, the best learning rates of every arm and rule are selected first. All candidates
    learn as one population with some seeds. The best candidate of each arm then learns again with
    fresh seeds, and only these runs are reported.
    """

    program: ClassVar[str] = "python -m experiments.compare_dqn"
    may_differ: ClassVar[tuple[str, ...]] = ("parallel", "out", "resume", "vector")

    problem: Annotated[tuple[str, ...], several]
    """One or several environments; see python -m experiments.train_dqn --help."""
    arm: Annotated[tuple[str, ...], several, one_of(DQN_ARMS)] = ("split", "body", "head")
    """The arms to compare."""
    seeds: Annotated[int, count(1, 1000)] = 3
    """Number of seeds per game and arm, counted from --first-seed. All arms of a seed start from
    the same parameters and the same games."""
    first_seed: Annotated[int, count(0)] = 0
    """First of the seeds. With other seeds a comparison is independent of earlier ones."""
    random_games: Annotated[int, count(1, 100_000)] = 100
    """Number of games of the random policy, with which all arms are compared."""
    parallel: Annotated[int, count(1, 1000)] = 1
    """Number of runs at a time. Each run is a process, and its log is next to its folder. The runs
    share the threads of the processor, unless --threads is given. With --grid: number of processes
    among which the runs are divided. A stage that is resumed keeps its number of processes."""
    out: Path = Path("runs/compare_dqn")
    """Folder of all runs and of their common figure and summary."""
    resume: bool = False
    """Continue the comparison in --out; only --parallel may differ."""
    grid: bool = False
    """Select the learning rates of each arm from a grid, and report them on fresh seeds."""
    rules: Annotated[tuple[str, ...] | None, several, one_of(CONTROL_RULES)] = None
    """With --grid: the rules to compare, each with every arm. The default is the rule of --rule."""
    body_steps: Annotated[tuple[float, ...], several, above(0)] = (2.5e-4, 1e-3, 4e-3)
    """With --grid: the body rates α of the grid."""
    ratios: Annotated[tuple[float, ...], several, above(0)] = (4.0,)
    """With --grid: the ratios ρ of the grid. The learning rates (body, head) are (α, ρα) for split,
    (α, α) for body, (ρα, ρα) for head and (ρα, α) for opposite."""
    selection_seeds: Annotated[int, count(1, 1000)] = 3
    """With --grid: number of seeds with which candidates are selected. They are different from
    those of --seeds."""


@dataclass(frozen=True)
class Comparison:
    """A comparison and what was given for all of its runs, {field: value}."""

    settings: ComparisonSettings
    shared: Mapping[str, Any]

    def run(self, game: str, arm: str, seed: int) -> DQNSettings:
        """Return the settings of one run."""
        out = self.settings.out / folder_name(game) / arm / f"seed-{seed}"
        return self.member(game, {"arm": arm, "seed": seed, "out": out})

    @property
    def seeds(self) -> range:
        """Return the seeds that are reported."""
        first = self.settings.first_seed
        return range(first, first + self.settings.seeds)

    @property
    def rules(self) -> tuple[str, ...]:
        """Return the rules of a grid."""
        return self.settings.rules or (self.member(self.settings.problem[0], {}).rule,)

    def member(self, game: str, own: Mapping[str, Any]) -> DQNSettings:
        """Return the settings of one run on a game, with what it has of its own, {field: value}."""
        return dqn_settings({**self.shared, "problem": game, **own})

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
    _check_grid(settings, given)
    check_rates(settings.arm, shared)
    rules = [{"rule": rule} for rule in settings.rules or ()] or [{}]
    runs = [comparison.member(game, rule) for game in settings.problem for rule in rules]
    idle = [idle_flags(run, idle_agent_settings(run)) for run in runs]
    for name in idle[0]:
        if all(name in each for each in idle):
            raise UsageError(idle[0][name])
    if all(run.objective.target == "none" for run in runs):
        check_target_period(runs[0], shared)
    return comparison


# What a population has no use for, and why.
_NOT_IN_GRID = {
    **dict.fromkeys(("body_step", "head_step"), "give --body-steps and --ratios"),
    "environments": "all runs learn together, with one game each",
    **dict.fromkeys(("save_replay", "compile", "precision"), "it is for single runs"),
    "measure_every": "scores alone are kept",
}
_IN_GRID = ("rules", "body_steps", "ratios", "selection_seeds")


def _check_grid(settings: ComparisonSettings, given: Mapping[str, Any]) -> None:
    """Raise UsageError for a flag that --grid, or its absence, leaves without effect."""
    flags = {name: flag_of(name) for name in given}
    if not settings.grid:
        for name in _IN_GRID:
            if name in given:
                raise UsageError(f"{flags[name]} has no effect without --grid")
        return
    for name, why in _NOT_IN_GRID.items():
        if name in given:
            raise UsageError(f"{flags[name]} has no effect with --grid: {why}")
    if settings.first_seed + settings.seeds > FIRST_SELECTION_SEED:
        raise UsageError(
            f"--first-seed {settings.first_seed} with --seeds {settings.seeds} reaches the seeds "
            f"of the selection: the last one must be below {FIRST_SELECTION_SEED}"
        )
    if settings.rules and "rule" in given:
        raise UsageError(f"--rule {given['rule']} has no effect with --rules")
