"""The settings of a step-size study."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from experiments.evaluate_policy.settings.data_settings import DataSettings
from experiments.evaluate_policy.settings.learning_settings import LearningSettings
from experiments.runs.command_line.checks import UsageError, check_choice
from experiments.runs.command_line.requirements import (
    above,
    count,
    from_to,
    one_of,
    read_by,
    several,
)
from experiments.runs.command_line.settings import (
    flag_of,
)
from experiments.runs.results.statistics import summary_key
from experiments.sweep.settings.grids import grid
from experiments.sweep.settings.job_part import job_part
from neural_tdc.baselines.methods import METHODS
from neural_tdc.learning.sampling import SAMPLINGS
from neural_tdc.metrics.registry import selectable_metrics
from neural_tdc.rules.registry import RULES

# The control whose body stays as it was initialised; the others are methods by their names.
FROZEN_BODY = "frozen"
GRIDS = ("body_steps", "ratios", "head_steps", "auxiliary_ratios")
ENGINES = ("local", "ray")


def selectable() -> list[str]:
    """Return what --select allows: the mean over a run or the end of each error."""
    names = [summary_key(metric.key) for metric in selectable_metrics()]
    return [f"{when}_{name}" for when in ("auc", "final") for name in names]


def _known_rule(name: str) -> None:
    # A rule of the user's own, module:function, is loaded where it is used.
    if ":" not in name:
        RULES[name]


@dataclass(frozen=True, kw_only=True)
class SweepSettings(LearningSettings, DataSettings):
    """Study step sizes: problems × rules × body steps × ratios × runs, as compiled populations.

    Every configuration learns from the same streams and is measured against the same truth. The
    best step of each rule and ratio is selected on the runs of the sweep and reported on fresh
    ones.
    A grid is a list of numbers (0.01), powers (2^-3) and ranges of powers (2^-10:2^0).
    Problems and rules: see python -m experiments.evaluate_policy --help.
    """

    program: ClassVar[str] = "python -m experiments.sweep"
    # A resumed study is run in the same shards, wherever and by however many workers.
    may_differ: ClassVar[tuple[str, ...]] = (
        *("engine", "address", "workers", "memory", "device", "study"),
    )

    study: Path | None = None
    """A TOML file with these settings; the command line has priority. A table
    [override."PROBLEM"] in it changes settings for one problem."""
    problem: Annotated[tuple[str, ...] | None, several] = None
    """One or several problems. Each has a panel in the figures."""
    rule: Annotated[tuple[str, ...], several, read_by(_known_rule)] = ()
    """One or several learning rules."""
    sampling: Annotated[tuple[str, ...], several, one_of(SAMPLINGS)] = ("markov",)
    """One or several sampling schemes. Each has a panel in the figures."""
    body_steps: tuple[str, ...] = ("2^-10:2^0",)
    """Grid of body steps α."""
    ratios: tuple[str, ...] = ("1", "3", "10", "30", "100", "inf")
    """Grid of ratios β/α of head step to body step; inf: the head is solved by LSTD."""
    head_steps: tuple[str, ...] = ("2^-10:2^0",)
    """Grid of head steps β, if no body learns (given features, frozen bodies)."""
    lambda_: Annotated[float, from_to(0, 1)] = 0.0
    """Trace decay λ of all rules. Above 0 it needs --sampling sequences, or --features given,
    --sampling markov and --batch 1."""
    controls: Annotated[tuple[str, ...], one_of((FROZEN_BODY, *METHODS))] = (
        *("constant", "lstd-random", FROZEN_BODY),
    )
    """What every table shows next to the rules: methods that learn from all transitions at once,
    and frozen, the rule --baseline with a body that does not learn and --head-steps; without a name
    no control."""
    auxiliary_ratios: tuple[str, ...] = ("1",)
    """Grid of ratios η/β of auxiliary step to head step. For a head solved by LSTD, β is then that
    of the largest finite ratio."""
    fresh_runs: Annotated[int | None, count(0)] = None
    """Number of runs with new seeds on which the selected steps are reported. The default is
    --runs; 0 means none."""
    select: Annotated[tuple[str, ...], several, one_of(selectable())] = ("auc_rmsve",)
    """One or several criteria of selection: the mean of an error over a run (auc_…) or its value
    at the end (final_…)."""
    baseline: str | None = None
    """The rule with which the others are compared, in pairs of runs. The default is the first."""
    engine: Annotated[str, one_of(ENGINES)] = "local"
    """local: processes on this machine; ray: a Ray cluster."""
    address: str | None = None
    """With --engine ray: HOST:PORT of the cluster, or ray://HOST:PORT. If not given, a cluster is
    started on this machine."""
    workers: Annotated[int | None, count(1)] = None
    """Number of shards that run at the same time. The default is the number of cores divided by
    --threads. With ray the cluster decides."""
    threads: Annotated[int, count(1)] = 1
    """Threads per shard. The last bits of the results depend on this number."""
    memory: Annotated[float | None, above(0)] = None
    """Gigabytes of device memory for all workers of a machine together, at most what is free there.
    The default is half of the free memory."""

    shard: Annotated[str | None, read_by(job_part)] = None
    """I/N: run part I of N parts of the study alone, in the folder OUT-I-of-N; for a job array.
    A part that was stopped continues."""
    merge: tuple[Path, ...] = ()
    """The folders of all parts of a study: make them one, with its fresh runs and reports. All
    settings are those of the parts."""

    def __post_init__(self) -> None:
        """Check that there is something to study, every field, and the grids."""
        if not self.problem and self.data is None:
            raise UsageError(
                "--problem must be given, or --study with a file that gives it, or --data"
            )
        if self.problem and self.data is not None:
            given = " ".join(self.problem)
            raise UsageError(
                f"--problem {given} and {self.data_flags} exclude each other: give one"
            )
        if not self.rule:
            raise UsageError("--rule must be given, or --study with a file that gives it")
        if self.shard is not None and self.merge:
            raise UsageError(f"--shard {self.shard} and --merge exclude each other: give one")
        super().__post_init__()
        for name in GRIDS:
            grid(flag_of(name), getattr(self, name), infinite=name == "ratios")
        if self.baseline is not None:
            check_choice("--baseline", self.baseline, self.rule)
