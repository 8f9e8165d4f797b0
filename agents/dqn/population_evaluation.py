"""Scores of whole games by a population: those that each run would have alone."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from agents.dqn.stacked_networks import StackedNetwork
from agents.dqn.transfer import on_device
from envs.games.discrete_control import GymnasiumEnvironments
from neural_tdc.randomness import generator


def evaluate_population(
    networks: Sequence[tuple[slice, StackedNetwork]],
    environments: GymnasiumEnvironments,
    epsilon: float,
    seeds: Sequence[int],
    max_episode_steps: int,
) -> Float[np.ndarray, "run game"]:
    """Play whole games with every run's network; return raw scores.

    networks:      as `DQNPopulation.networks`
    environments:  the same number for every run: those of the first run, of the second, …
    seeds:         of each run's games and random actions

    The games of run i are those of `agents.dqn.evaluation.evaluate_episodes` with its seed.
    """
    runs, games = len(seeds), environments.count // len(seeds)
    device = networks[0][1].head.weight.device
    sources = [generator(seed, "playing") for seed in seeds]
    frame = environments.reset_each([(seed, game) for seed in seeds for game in range(games)])
    going = np.ones(runs * games, dtype=bool)
    scores = np.zeros(runs * games)
    for _ in range(max_episode_steps):
        playing = going.reshape(runs, games).any(1)
        action = np.zeros((runs, games), dtype=np.int64)
        explore = np.zeros((runs, games), dtype=bool)
        for run in np.flatnonzero(playing):
            explore[run] = (torch.rand(games, generator=sources[run]) < epsilon).numpy()
            drawn = torch.randint(environments.actions, (games,), generator=sources[run])
            action[run] = drawn.numpy()
        (observation,) = on_device([frame.reshape(runs, games, *frame.shape[1:])], device)
        greedy = torch.cat([network.greedy(observation[own]) for own, network in networks])
        environments.send(np.where(explore, action, greedy.cpu().numpy()).reshape(-1))
        which = np.flatnonzero(going)
        step = environments.receive_some(which)
        frame[which] = step.frame
        scores[which] += step.reward
        going[which] = ~(step.terminated | step.truncated)
        if not going.any():
            break
    return scores.reshape(runs, games)
