"""Acting with a Q-network, and the scores of whole games."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from agents.dqn.learner import Learner
from agents.dqn.replay import Replay
from envs.games.stepping import Environments, GameStep
from neural_tdc.randomness import generator


class Scores:
    """Raw returns and lengths of whole games, from step to step."""

    def __init__(self, count: int) -> None:
        self.running = np.zeros(count)
        self.length = np.zeros(count, dtype=np.int64)

    def add(self, step: GameStep) -> tuple[list[float], list[int]]:
        """Count a step; return the games that ended before it, which a reset shows."""
        over = step.reset
        ended = (self.running[over].tolist(), self.length[over].tolist())
        self.running = np.where(over, 0.0, self.running + step.reward)
        self.length = np.where(over, 0, self.length + 1)
        return ended


def epsilon_greedy(
    learner: "Learner | GreedyActor",
    observation: Callable[[], Tensor],
    environments: Environments,
    epsilon: float,
    source: torch.Generator,
) -> np.ndarray:
    """Return the best action by the network, or with probability ε any action: [environment].

    The network is asked only where some environment follows it.
    """
    explore = (torch.rand(environments.count, generator=source) < epsilon).numpy()
    drawn = torch.randint(environments.actions, (environments.count,), generator=source).numpy()
    if explore.all():
        return drawn
    # The one place where acting waits for the device: an emulator needs to know.
    return np.where(explore, drawn, learner.greedy(observation()).cpu().numpy())


class GreedyActor:
    """A network that is asked for its best actions and learns nothing."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.device = next(network.parameters()).device

    @torch.no_grad()
    def greedy(self, observation: Tensor) -> Tensor:
        """Return the best action [n] at observations [n, …], on the network's device."""
        return self.network(observation).argmax(1)


def evaluate_episodes(
    actor: "Learner | GreedyActor",
    environments: Environments,
    epsilon: float,
    seed: int,
    max_episode_steps: int,
) -> tuple[list[float], list[int]]:
    """Play one whole game in every environment; return raw scores and lengths in agent steps.

    epsilon:  probability of a random action, from a generator of its own
    max_episode_steps:  agent steps after which a game is left, with the score it has then

    Learns nothing and touches no random number of a training. Games depend on (seed, ε) and on the
    actor alone.
    """
    memory = Replay(
        (environments.stack + 3) * environments.count,
        environments.count,
        environments.frame_shape,
        dtype=environments.dtype,
        stack=environments.stack,
        device=actor.device,
    )
    source = generator(seed, "playing")
    scores = Scores(environments.count)
    memory.start(environments.reset(seed))
    going = np.ones(environments.count, dtype=bool)
    returns = np.zeros(environments.count)
    lengths = np.zeros(environments.count, dtype=np.int64)
    for _ in range(max_episode_steps):
        action = epsilon_greedy(actor, memory.latest, environments, epsilon, source)
        environments.send(action)
        step = environments.receive()
        memory.append(action, step.reward, step.terminated, step.truncated, step.reset, step.frame)
        scores.add(step)
        going &= ~step.reset
        returns = np.where(going, scores.running, returns)
        lengths = np.where(going, scores.length, lengths)
        if not going.any():
            break
    return returns.tolist(), lengths.tolist()
