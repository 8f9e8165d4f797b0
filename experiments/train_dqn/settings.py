"""The settings of a run of deep Q-learning, and the checks of what several say together.

What the settings stand for is made in `experiments.train_dqn.build`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from agents.dqn.objectives import CONTROL_RULES, GRADIENT_RULES, QObjective
from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.common_settings import FolderSettings
from experiments.runs.command_line.requirements import count, one_of
from experiments.runs.command_line.settings import (
    flag_of,
    settings_from,
)
from experiments.runs.folder.folder_contents import folder_name
from experiments.train_dqn.agent_settings import AgentSettings
from experiments.train_dqn.defaults import defaults

DQN_ARMS = ("split", "body", "head", "opposite")


def dqn_arm_rates(arm: str, body: float, head: float) -> tuple[float, float]:
    """Return the learning rates of body and head that an arm makes of two."""
    arms = {"split": (body, head), "body": (body, body), "head": (head, head)}
    return arms.get(arm, (head, body))


@dataclass(frozen=True, kw_only=True)
class DQNSettings(AgentSettings, FolderSettings):
    """Train a deep Q-network with separate learning rates for its body and its last layer (head).

    Problems: ALE/Pong-v5 and every other game of ale-py; MinAtar/Breakout, MinAtar/Asterix,
    MinAtar/Freeway, MinAtar/Seaquest, MinAtar/SpaceInvaders; CartPole-v1, Acrobot-v1 and any other
    Gymnasium id with discrete actions.
    """

    program: ClassVar[str] = "python -m experiments.train_dqn"
    may_differ: ClassVar[tuple[str, ...]] = ("steps", "device")

    problem: str
    """Name of the environment."""
    arm: Annotated[str, one_of(DQN_ARMS)] = "split"
    """split: the body learns at --body-step and the head at --head-step; body: both learn at
    --body-step; head: both learn at --head-step; opposite: the body learns at --head-step and the
    head at --body-step."""
    seed: Annotated[int, count(0)] = 0
    """Seed of all randomness. On the CPU of one machine, the same seed and flags give the same
    result to the bit."""
    out: Path | None = None
    """Folder of the run. The default is runs/PROBLEM."""
    resume: bool = False
    """Continue the run in --out. Only --steps (which may increase) and --device may differ."""

    def __post_init__(self) -> None:
        """Check every field, that the replay holds the first batch, and that it is learned from."""
        super().__post_init__()
        if self.batch > self.replay_capacity:
            raise UsageError(
                f"--batch {self.batch} is larger than the replay: give at most "
                f"--replay-capacity {self.replay_capacity}"
            )
        least = max(self.batch, self.n_step + 1)
        if self.learning_starts < least:
            raise UsageError(
                f"--learning-starts {self.learning_starts} is too small: the first batch of "
                f"--batch {self.batch} {self.n_step}-step transitions needs {least}"
            )
        first = self.learning_starts + self.update_every
        if self.steps < first:
            raise UsageError(
                f"--steps {self.steps} would learn nothing: the first update comes after {first} "
                f"agent steps, --learning-starts {self.learning_starts} and --update-every "
                f"{self.update_every}"
            )
        _check_segments(self)
        if self.rule in GRADIENT_RULES and self.target == "network":
            raise UsageError(
                f"--target network leaves nothing to correct with --rule {self.rule}: give head or "
                "none"
            )
        if self.rule == "double-q" and self.target == "none":
            raise UsageError(
                "--target none makes --rule double-q the same as q: give --rule q, or another "
                "--target"
            )

    @property
    def folder(self) -> Path:
        """Return the folder of the run."""
        return self.out or Path("runs") / folder_name(self.problem)

    @property
    def rates(self) -> tuple[float, float]:
        """Return the learning rates of body and head that the arm stands for."""
        return dqn_arm_rates(self.arm, self.body_step, self.head_step)

    @property
    def objective(self) -> QObjective:
        """Return what an update descends."""
        rule = CONTROL_RULES[self.rule]
        return rule._replace(
            target=self.target or rule.target,
            loss=rule.loss if rule.correction else self.loss,
            kappa=self.kappa if self.kappa is not None and rule.kappa else rule.kappa,
            trace_decay=self.lambda_,
        )

    @property
    def segment_length(self) -> int:
        """Return the transitions of a segment of a batch, 1 without λ."""
        return self.sequence_length if self.lambda_ else 1


def _check_segments(settings: DQNSettings) -> None:
    """Raise UsageError for λ with transitions that have no segments."""
    if not settings.lambda_:
        return
    for name, value in (("n_step", settings.n_step), ("environments", settings.environments)):
        if value != 1:
            flag = flag_of(name)
            raise UsageError(f"{flag} {value} is not possible with --lambda: give {flag} 1")
    if settings.batch % settings.sequence_length:
        raise UsageError(
            f"--batch {settings.batch} is not a multiple of --sequence-length "
            f"{settings.sequence_length}"
        )


def dqn_settings(given: Mapping[str, Any]) -> DQNSettings:
    """Make settings of what is given, {field: value}, and the defaults of its problem."""
    return settings_from(DQNSettings, defaults(given.get("problem", "")), given)
