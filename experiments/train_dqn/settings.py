"""The command line of deep Q-learning: its flags, their defaults for each kind of problem, checks.

What the flags stand for is made in `experiments.train_dqn.build`.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agents.dqn.learner import LOSSES, OPTIMIZERS, PRECISIONS
from agents.dqn.q_network import NETWORKS
from envs.games.atari import ATARI
from envs.games.discrete_control import MINATAR
from experiments.runs.command_line import (
    UsageError,
    check_choice,
    check_fraction,
    check_integer,
    check_positive,
    check_positive_integer,
    check_step_size,
)
from experiments.train_dqn.defaults import defaults

ARMS = ("split", "body", "head", "opposite")
RESUME_MAY_CHANGE = ("steps", "device")


@dataclass(kw_only=True)
class CommonSettings:
    """The flags that runs of one comparison share."""

    body_step: float | None = None
    """Learning rate of the body (1e-4, 1e-4, 1e-3)."""
    head_step: float | None = None
    """Learning rate of the head, the last layer (2.5e-4, 2.5e-4, 2.5e-3)."""
    rate_last: float = 1.0
    """Factor that both rates fall to, linearly, by the last step; 1 keeps them."""
    optimizer: str | None = None
    """rmsprop (centred, decay 0.95), adam or sgd (rmsprop, adam, adam)."""
    damping: float | None = None
    """ε of the optimiser's denominator (0.01 for rmsprop, 1e-8 for adam)."""
    network: str | None = None
    """paper: one convolution and two fully connected layers; nature: three and two; mlp: fully
    connected (paper, paper, mlp)."""
    features: int | None = None
    """Units of the last hidden layer, whose values the head weighs (256 or 512, 128, 128)."""
    hidden: tuple[int, ...] = (128,)
    """Units of the layers of mlp before that one."""
    double: bool = True
    """Double DQN: the network chooses the next action, the target network values it."""
    loss: str = "huber"
    """huber (of width 1) or squared."""
    gamma: float = 0.99
    """Discount of a step."""
    n_step: int | None = None
    """Steps of a return before the target network values the rest (1, 1, 3)."""
    reward_limit: float | None = None
    """Rewards are cut to ± this limit for learning and scored raw; 0 for none (1, 0, 0)."""
    gradient_norm: float = 0.0
    """The gradient is shortened to this norm; 0 leaves it as it is."""
    steps: int | None = None
    """Agent steps in all: actions, each of 4 frames on Atari (1,000,000; 300,000; 50,000)."""
    environments: int = 1
    """Games that are played side by side; the ratio of updates to agent steps stays."""
    batch: int | None = None
    """Transitions an update (32, 32, 64)."""
    update_every: int | None = None
    """Agent steps an update (4, 2, 2)."""
    target_period: int | None = None
    """Agent steps between copies into the target network (10,000; 1,000; 200)."""
    replay_capacity: int | None = None
    """Frames the replay holds (100,000; 100,000; 50,000)."""
    learning_starts: int | None = None
    """Agent steps before the first update (10,000; 5,000; 1,000)."""
    epsilon_first: float = 1.0
    """Probability of a random action at the start."""
    epsilon_last: float | None = None
    """Probability of a random action from --epsilon-steps on (0.1, 0.05, 0.04)."""
    epsilon_steps: int | None = None
    """Agent steps over which it falls linearly (250,000; 100,000; 8,000)."""
    sticky_actions: float | None = None
    """Atari, MinAtar: probability that the last action is repeated (0 and 0.1)."""
    noop_max: int = 30
    """Atari: most steps of doing nothing that begin a game, their number drawn."""
    frame_limit: int = 108_000
    """Atari: emulated frames after which a game is cut."""
    full_action_set: bool = False
    """Atari: all 18 actions in place of those that the game knows."""
    life_loss: bool = True
    """Atari: a lost life ends the value in training; a score is always that of the whole game."""
    fire_reset: bool = False
    """Atari: press the fire button where a game waits for it at its start."""
    measure_every: int | None = None
    """Agent steps between two measurements (5,000; 2,000; 1,000)."""
    evaluate_every: int | None = None
    """Agent steps between two evaluations (100,000; 25,000; 5,000)."""
    evaluation_episodes: int = 10
    """Whole games an evaluation plays, each from a seed of its own."""
    evaluation_epsilon: float = 0.05
    """Probability of a random action in evaluations."""
    evaluation_longest: int = 27_000
    """Agent steps after which a game of an evaluation is left, with its score so far."""
    precision: str = "float32"
    """float32, or bf16 for the products in forward and backward passes."""
    compile: bool = False
    """Compile the loss and its gradients, which takes some 20 seconds."""
    threads: int = 0
    """Threads that compute; 0: all there are for Atari, shared by the runs at a time; else one."""
    save_replay: bool = False
    """Store the replay in checkpoints, so that a resumed run goes on where it was."""
    checkpoint_every: float = 60.0
    """Seconds between two checkpoints."""
    device: str = "auto"
    """auto, cpu or cuda."""


@dataclass(kw_only=True)
class Settings(CommonSettings):
    """Train a deep Q-network whose body and last layer learn at rates of their own.

    Problems: ALE/Pong-v5 and every other game of ale-py; MinAtar/Breakout, MinAtar/Asterix,
    MinAtar/Freeway, MinAtar/Seaquest, MinAtar/SpaceInvaders; CartPole-v1, Acrobot-v1 and any other
    Gymnasium id with discrete actions. Where a default is given as three numbers they are for
    Atari, MinAtar, and others.
    """

    problem: str
    """The environment's name."""
    arm: str = "split"
    """split: body and head at their own steps; body: both at --body-step; head: both at
    --head-step; opposite: the two exchanged."""
    seed: int = 0
    """Seed of everything; same seed, machine and flags, same result to the bit on the CPU."""
    out: Path | None = None
    """Folder of the run; runs/PROBLEM if not given."""
    resume: bool = False
    """Go on with the run in --out; only --steps (longer) and --device may differ."""
    overwrite: bool = False
    """Replace a run in --out."""


def filled(settings: Settings) -> dict[str, Any]:
    """Check settings and return them with the defaults of their problem put in, as plain values.

    Raises UsageError in one line that names the flag.
    """
    chosen = defaults(settings.problem)
    values = {
        name: chosen[name] if value is None and name in chosen else value
        for name, value in asdict(settings).items()
        if name not in ("out", "resume", "overwrite")
    }
    values["hidden"] = list(values["hidden"])
    _check(values)
    return values


def rates(values: dict[str, Any]) -> tuple[float, float]:
    """Return the learning rates of body and head that an arm stands for."""
    body, head = values["body_step"], values["head_step"]
    return {"split": (body, head), "body": (body, body), "head": (head, head)}.get(
        values["arm"], (head, body)
    )


_CHOICES = {
    "arm": ARMS,
    "optimizer": OPTIMIZERS,
    "network": NETWORKS,
    "loss": tuple(LOSSES),
    "precision": PRECISIONS,
}
_AT_LEAST_ONE = (
    *("n_step", "steps", "environments", "batch", "update_every", "target_period"),
    *("replay_capacity", "measure_every", "evaluate_every", "evaluation_episodes"),
    *("evaluation_longest", "frame_limit"),
)
_FRACTIONS = ("gamma", "rate_last", "epsilon_first", "epsilon_last", "evaluation_epsilon")


def _check(values: dict[str, Any]) -> None:
    def flag(name: str) -> str:
        return "--" + name.replace("_", "-")

    for name, allowed in _CHOICES.items():
        check_choice(flag(name), values[name], allowed)
    for name in ("body_step", "head_step"):
        check_positive(flag(name), values[name])
    for name in _AT_LEAST_ONE:
        check_positive_integer(flag(name), values[name])
    for name in ("learning_starts", "epsilon_steps", "noop_max", "threads", "seed"):
        check_integer(flag(name), values[name], 0)
    for name in _FRACTIONS:
        check_fraction(flag(name), values[name])
    for name in ("reward_limit", "gradient_norm", "checkpoint_every"):
        check_step_size(flag(name), values[name])
    if values["damping"] is not None:
        check_positive("--damping", values["damping"])
    if values["features"] is not None:
        check_positive_integer("--features", values["features"])
    for units in values["hidden"]:
        check_positive_integer("--hidden", units)
    if values["sticky_actions"] is not None:
        check_fraction("--sticky-actions", values["sticky_actions"])
        if not values["problem"].startswith((ATARI, MINATAR)):
            raise UsageError(f"--sticky-actions is not known to {values['problem']}")
    if values["batch"] > values["replay_capacity"]:
        raise UsageError(
            f"--batch {values['batch']} is larger than the replay: give at most "
            f"--replay-capacity {values['replay_capacity']}"
        )
    least = max(values["batch"], values["n_step"] + 1)
    if values["learning_starts"] < least:
        raise UsageError(
            f"--learning-starts {values['learning_starts']} is too small: the first batch of "
            f"--batch {values['batch']} {values['n_step']}-step transitions needs {least}"
        )
