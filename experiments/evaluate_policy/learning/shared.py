"""What the runs of one command share."""

from typing import Any, NamedTuple

from agents.task import OnTaskProgress, Task
from experiments.evaluate_policy.parts.plan import EvaluationPlan
from experiments.runs.results.phases import PhaseClock


class Shared(NamedTuple):
    """The settings, the experience and the program's clock, the same for all runs of a command.

    settings:    as they are written down
    flags:       those that say where the experience comes from, for messages about it
    on_progress: is told of work in parts: what, how many are done, of how many
    cores:       threads that may share the runs of a population
    """

    settings: dict[str, Any]
    plan: EvaluationPlan
    task: Task
    flags: str
    on_progress: OnTaskProgress
    clock: PhaseClock
    cores: int


class Beginning(NamedTuple):
    """What a resumed run keeps of its beginning, besides its settings.

    pool: the updates that it was begun with: i.i.d. draws come from so many transitions, and an
          uneven grid of measurements follows from it
    rewards_divided_by: for learning; a longer run has a longer stream, whose returns have another
          scale
    """

    compiled: bool
    pool: int
    rewards_divided_by: float
