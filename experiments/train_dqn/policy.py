"""Trained policies: a checkpoint of train_dqn as a function from observations to probabilities.

policy = load_policy("runs/pong/checkpoint.pt")
probabilities = policy(observations)
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import torch
from torch import Tensor

from agents.dqn.q_network import QNetwork, make_network
from envs.control.environments import make
from envs.control.trained_inputs import in_trained_shape
from envs.games.atari import ATARI
from envs.games.single_game import SingleGame
from experiments.runs.command_line.checks import UsageError
from experiments.runs.folder.checkpoint import load_checkpoint
from experiments.train_dqn.build import games
from experiments.train_dqn.settings import DQNSettings


class Trained(NamedTuple):
    """What a checkpoint of train_dqn holds of its policy.

    network:   in eval mode, on the CPU
    shape:     of an observation
    settings:  of the run
    protocol:  what the scores of the run depend on
    step:      agent steps it had learned from
    """

    network: QNetwork
    shape: tuple[int, ...]
    settings: DQNSettings
    protocol: dict[str, Any]
    step: int


def load_trained(path: Path | str) -> Trained:
    """Read the network of a checkpoint; ValueError in one line where it is none of train_dqn's."""
    saved = load_checkpoint(Path(path))
    if not saved.keys() >= {"policy", "values", "training", "protocol", "step"}:
        raise ValueError(f"{path} is not a checkpoint of a run of train_dqn")
    made = saved["policy"]
    shape = tuple(made["observation_shape"])
    network = make_network(
        made["name"],
        shape,
        made["actions"],
        seed=0,
        scale=made["scale"],
        features=made["features"],
        hidden=tuple(made["hidden"]),
    )
    network.load_state_dict(saved["training"]["learner"]["network"])
    values = dict(saved["values"])
    if "double" in values:
        # A checkpoint from before there were rules.
        values["rule"] = "double-q" if values.pop("double") else "q"
    return Trained(network.eval(), shape, DQNSettings(**values), saved["protocol"], saved["step"])


def epsilon_greedy_policy(trained: Trained, epsilon: float) -> Callable[[Tensor], Tensor]:
    """Return the policy [n, …] → probabilities [n, actions] that is ε-greedy in a network's values.

    Where actions are equally good the first is taken, as in training. Pictures with the channel
    last are turned; the policy raises ValueError for observations of another shape.
    """

    def policy(observation: Tensor) -> Tensor:
        seen = in_trained_shape(observation, trained.shape)
        with torch.no_grad():
            values = trained.network(seen if seen.dtype == torch.uint8 else seen.float())
        greedy = torch.nn.functional.one_hot(values.argmax(1), values.shape[1])
        return (1 - epsilon) * greedy + epsilon / values.shape[1]

    return policy


def load_policy(path: Path | str, epsilon: float | None = None) -> Callable[[Tensor], Tensor]:
    """Load a trained policy from a checkpoint of train_dqn.

    epsilon:  probability of a random action; that of the run's evaluations if not given

    Returns a function from observations [n, …], as the network read them, to probabilities
    [n, actions]. Raises ValueError in one line where the file is no such checkpoint.
    """
    trained = load_trained(path)
    chosen = trained.settings.evaluation_epsilon if epsilon is None else epsilon
    policy = epsilon_greedy_policy(trained, chosen)
    policy.__name__ = f"DQN of {trained.step:,} agent steps with ε = {chosen:g}"
    return policy


def checkpoint_environment(
    problem: str, path: Path | str
) -> tuple[Callable[[], gymnasium.Env], float, tuple[str, ...]]:
    """Return what makes the environment of a trained policy, whole games, its γ and what to note.

    Raises UsageError where the checkpoint is of another environment than `problem`.
    """
    trained = load_trained(path)
    learned = trained.settings.problem
    if learned != problem:
        raise UsageError(f"{path} was trained on {learned}, not on --problem {problem}")

    def maker() -> gymnasium.Env:
        if "/" not in problem:
            return make(problem)
        return SingleGame(lambda: games(trained.settings, 1, evaluation=True))

    maker.__name__ = problem
    notes: tuple[str, ...] = ()
    if problem.startswith(ATARI) and trained.protocol["sticky_actions"]:
        notes = (
            "the emulator's own chance is the same in all rollouts from a state: the standard "
            "error of the truth leaves the sticky actions out",
        )
    return maker, trained.settings.gamma, notes
