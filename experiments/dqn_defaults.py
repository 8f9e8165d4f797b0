"""What holds in deep Q-learning where the command line says nothing, for each kind of problem."""

from typing import NamedTuple

from envs.atari import ATARI
from envs.discrete_control import MINATAR


class Defaults(NamedTuple):
    """What is not given on the command line, for one kind of problem."""

    network: str
    steps: int
    body_step: float
    head_step: float
    optimizer: str
    n_step: int
    batch: int
    replay_capacity: int
    learning_starts: int
    update_every: int
    target_period: int
    epsilon_last: float
    epsilon_steps: int
    reward_limit: float
    measure_every: int
    evaluate_every: int


ATARI_DEFAULTS = Defaults(
    network="paper",
    steps=1_000_000,
    body_step=1e-4,
    head_step=2.5e-4,
    optimizer="rmsprop",
    n_step=1,
    batch=32,
    replay_capacity=100_000,
    learning_starts=10_000,
    update_every=4,
    target_period=10_000,
    epsilon_last=0.1,
    epsilon_steps=250_000,
    reward_limit=1.0,
    measure_every=5_000,
    evaluate_every=100_000,
)
MINATAR_DEFAULTS = Defaults(
    network="paper",
    steps=300_000,
    body_step=1e-4,
    head_step=2.5e-4,
    optimizer="adam",
    n_step=1,
    batch=32,
    replay_capacity=100_000,
    learning_starts=5_000,
    update_every=2,
    target_period=1_000,
    epsilon_last=0.05,
    epsilon_steps=100_000,
    reward_limit=0.0,
    measure_every=2_000,
    evaluate_every=25_000,
)
CONTROL_DEFAULTS = Defaults(
    network="mlp",
    steps=50_000,
    body_step=1e-3,
    head_step=2.5e-3,
    optimizer="adam",
    n_step=3,
    batch=64,
    replay_capacity=50_000,
    learning_starts=1_000,
    update_every=2,
    target_period=200,
    epsilon_last=0.04,
    epsilon_steps=8_000,
    reward_limit=0.0,
    measure_every=1_000,
    evaluate_every=5_000,
)


def defaults(problem: str) -> Defaults:
    """Return what holds for a problem where nothing else is given."""
    if problem.startswith(ATARI):
        return ATARI_DEFAULTS
    return MINATAR_DEFAULTS if problem.startswith(MINATAR) else CONTROL_DEFAULTS
