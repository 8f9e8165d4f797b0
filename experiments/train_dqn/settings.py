"""The settings of deep Q-learning, and the checks of what several of them say together.

What the settings stand for is made in `experiments.train_dqn.build`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from agents.dqn.learner import PRECISIONS
from agents.dqn.objectives import CONTROL_RULES, GRADIENT_RULES, LOSSES, TARGETS, QObjective
from agents.dqn.optimizers import OPTIMIZERS
from agents.dqn.q_network import NETWORKS, network_options
from envs.games.atari import Protocol
from envs.games.registry import protocol_options
from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.common_settings import DEVICES, FolderSettings
from experiments.runs.command_line.program import flags_given
from experiments.runs.command_line.requirements import above, at_least, count, from_to, one_of
from experiments.runs.command_line.settings import (
    CheckedSettings,
    Idle,
    check_effects,
    flag_of,
    settings_from,
)
from experiments.runs.folder.run_folder import folder_name
from experiments.train_dqn.defaults import defaults, defaults_in_words

DQN_ARMS = ("split", "body", "head", "opposite")


def dqn_arm_rates(arm: str, body: float, head: float) -> tuple[float, float]:
    """Return the learning rates of body and head that an arm makes of two."""
    arms = {"split": (body, head), "body": (body, body), "head": (head, head)}
    return arms.get(arm, (head, body))


@dataclass(frozen=True, kw_only=True)
class AgentSettings(CheckedSettings):
    """What the runs of a comparison share."""

    body_step: Annotated[float, above(0)]
    """Learning rate of the body."""
    head_step: Annotated[float, above(0)]
    """Learning rate of the head, the last layer."""
    rate_last: Annotated[float, from_to(0, 1)] = 1.0
    """Factor that both rates fall to, linearly, by the last step; 1 keeps them. A longer resumed
    run keeps the factor from where it was to end."""
    optimizer: Annotated[str, one_of(OPTIMIZERS)]
    """rmsprop (centred, decay 0.95), adam or sgd."""
    damping: Annotated[float | None, above(0)] = None
    """ε of the optimiser's denominator (0.01 for rmsprop, 1e-8 for adam)."""
    network: Annotated[str, one_of(NETWORKS)]
    """paper: one convolution and two fully connected layers; nature: three and two; mlp: fully
    connected."""
    features: Annotated[int | None, count(1)] = None
    """Units of the last hidden layer, whose values the head weighs; if not given 512 for nature,
    256 for paper on Atari, else 128."""
    hidden: Annotated[tuple[int, ...], count(1)] = (128,)
    """Units of the layers of mlp before that one."""
    rule: Annotated[str, one_of(CONTROL_RULES)] = "double-q"
    """double-q: the network chooses the next action, the target values it; q: the target does both;
    gradient TD with an auxiliary head for each action: qc, qrc, or tdc (Algorithm 1)."""
    target: Annotated[str | None, one_of(TARGETS)] = None
    """What values the next state: a copy of the network, of its head alone, or none; if not given
    network for q and double-q, none for qc, qrc and tdc."""
    auxiliary_step: Annotated[float | None, above(0)] = None
    """Learning rate of the auxiliary head of qc, qrc and tdc; the head's own if not given."""
    kappa: Annotated[float | None, at_least(0)] = None
    """κ of qrc, which draws its auxiliary head to 0; 1 if not given."""
    loss: Annotated[str, one_of(LOSSES)] = "huber"
    """Error of q and double-q: huber (of width 1) or squared."""
    gamma: Annotated[float, from_to(0, 1)] = 0.99
    """Discount of a step."""
    n_step: Annotated[int, count(1)]
    """Steps of a return before the target network values the rest."""
    reward_limit: Annotated[float, at_least(0)]
    """Rewards are cut to ± this limit for learning and scored raw; 0 for none."""
    gradient_norm: Annotated[float, at_least(0)] = 0.0
    """The gradient is shortened to this norm; 0 leaves it as it is."""
    steps: Annotated[int, count(1)]
    """Agent steps in all: actions, each of 4 frames on Atari."""
    environments: Annotated[int, count(1, 1000)] = 1
    """Games played side by side, at most 1000; the ratio of updates to agent steps stays."""
    batch: Annotated[int, count(1)]
    """Transitions per update."""
    update_every: Annotated[int, count(1)]
    """Agent steps per update."""
    target_period: Annotated[int, count(1)]
    """Agent steps between copies into the target."""
    replay_capacity: Annotated[int, count(1)]
    """Frames the replay holds."""
    learning_starts: Annotated[int, count(0)]
    """Agent steps before the first update."""
    epsilon_first: Annotated[float, from_to(0, 1)] = 1.0
    """Probability of a random action at the start."""
    epsilon_last: Annotated[float, from_to(0, 1)]
    """Probability of a random action from --epsilon-steps on."""
    epsilon_steps: Annotated[int, count(0)]
    """Agent steps over which it falls linearly."""
    sticky_actions: Annotated[float | None, from_to(0, 1)] = None
    """Atari, MinAtar: probability that the last action is repeated (0 and 0.1)."""
    noop_max: Annotated[int, count(0)] = 30
    """Atari: most steps of doing nothing that begin a game, their number drawn."""
    frame_limit: Annotated[int, count(1)] = 108_000
    """Atari: emulated frames after which a game is cut."""
    full_action_set: bool = False
    """Atari: all 18 actions in place of those that the game knows."""
    life_loss: bool = True
    """Atari: a lost life ends the value in training; a score is always that of the whole game."""
    fire_reset: bool = False
    """Atari: press the fire button where a game waits for it at its start."""
    measure_every: Annotated[int, count(1)]
    """Agent steps between two measurements."""
    evaluate_every: Annotated[int, count(1)]
    """Agent steps between two evaluations."""
    evaluation_episodes: Annotated[int, count(1, 1000)] = 10
    """Whole games that an evaluation plays side by side, at most 1000, each from its own seed."""
    evaluation_epsilon: Annotated[float, from_to(0, 1)] = 0.05
    """Probability of a random action in evaluations."""
    evaluation_longest: Annotated[int, count(1)] = 27_000
    """Agent steps after which a game of an evaluation is left, with its score so far."""
    precision: Annotated[str, one_of(PRECISIONS)] = "float32"
    """float32; on a GPU also tf32, for products with shorter mantissas; or bf16 for the products in
    forward and backward passes."""
    compile: bool = False
    """Compile the loss and its gradients, which takes some 20 seconds."""
    threads: Annotated[int, count(0)] = 0
    """Threads that compute; 0: all there are for Atari, shared by the runs at a time; else one."""
    save_replay: bool = False
    """Store the replay in checkpoints, so that a resumed run continues where it was."""
    checkpoint_every: Annotated[float, at_least(0)] = 60.0
    """Seconds between two checkpoints."""
    device: Annotated[str, one_of(DEVICES)] = "auto"
    """auto, cpu or cuda."""
    deterministic: bool = False
    """On a GPU: the same seed gives the same result to the bit, by slower kernels."""


@dataclass(frozen=True, kw_only=True)
class DQNSettings(AgentSettings, FolderSettings):
    """Train a deep Q-network whose body and last layer learn at rates of their own.

    Problems: ALE/Pong-v5 and every other game of ale-py; MinAtar/Breakout, MinAtar/Asterix,
    MinAtar/Freeway, MinAtar/Seaquest, MinAtar/SpaceInvaders; CartPole-v1, Acrobot-v1 and any other
    Gymnasium id with discrete actions.
    """

    program: ClassVar[str] = "python -m experiments.train_dqn"
    may_differ: ClassVar[tuple[str, ...]] = ("steps", "device")

    problem: str
    """The environment's name."""
    arm: Annotated[str, one_of(DQN_ARMS)] = "split"
    """split: body and head at their own steps; body: both at --body-step; head: both at
    --head-step; opposite: the two exchanged."""
    seed: Annotated[int, count(0)] = 0
    """Seed of everything; same seed, machine and flags, same result to the bit on the CPU."""
    out: Path | None = None
    """Folder of the run; runs/PROBLEM if not given."""
    resume: bool = False
    """Continue the run in --out; only --steps (longer) and --device may differ."""

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
        )


def dqn_settings(given: Mapping[str, Any]) -> DQNSettings:
    """Make settings of what is given, {field: value}, and the defaults of its problem."""
    return settings_from(DQNSettings, defaults(given.get("problem", "")), given)


def idle_agent_settings(settings: DQNSettings) -> list[Idle]:
    """Return the settings that change nothing on this problem or with these parts."""
    problem, network = settings.problem, settings.network
    games = set(Protocol._fields) - set(protocol_options(problem))
    layers = {"features", "hidden"} - set(network_options(network))
    idle = [
        Idle(sorted(games), f"on {problem}"),
        Idle(sorted(layers), f"with --network {network}, only with mlp"),
    ]
    if settings.optimizer == "sgd":
        idle.append(Idle(("damping",), "with --optimizer sgd"))
    rule = settings.rule
    if rule in GRADIENT_RULES:
        idle.append(Idle(("loss",), f"with --rule {rule}, whose error is squared"))
    else:
        idle.append(Idle(("auxiliary_step",), f"with --rule {rule}, which has no auxiliary head"))
    if rule != "qrc":
        idle.append(Idle(("kappa",), f"with --rule {rule}, only with qrc"))
    return idle


def check_target_period(settings: DQNSettings, given: Mapping[str, Any]) -> None:
    """Raise UsageError where --target-period was given and nothing is copied."""
    if settings.objective.target == "none" and "target_period" in given:
        raise UsageError(
            f"--target-period {given['target_period']} has no effect with --rule {settings.rule}, "
            "which has no target"
        )


def check_rates(arms: Collection[str], given: Mapping[str, Any]) -> None:
    """Raise UsageError where a learning rate was given that none of the arms has."""
    for name, without in (("body_step", "head"), ("head_step", "body")):
        if name in given and set(arms) == {without}:
            raise UsageError(
                f"{flag_of(name)} {given[name]:g} has no effect with --arm {without}: body and "
                f"head both learn at --{without}-step"
            )


def read_dqn_settings(argv: Sequence[str]) -> DQNSettings:
    """Make the settings of a command line."""
    given = flags_given([DQNSettings], argv, defaults_in_words())
    settings = dqn_settings(given)
    check_target_period(settings, given)
    check_rates([settings.arm], given)
    check_effects(settings, idle_agent_settings(settings))
    return settings
