"""Gymnasium's toy-text environments as finite problems, from the transition tables they carry.

FrozenLake, Taxi and CliffWalking hold their dynamics as `P[state][action]`, a list of (probability,
next state, reward, terminated). From it everything is exact, where Monte Carlo would estimate.
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from envs.control.environments import without_time_limit
from envs.finite.finite_mdp import FiniteMDP, finite_mdp

# Steps for which an environment must do what its table says.
TRIED_STEPS = 1_000
_STEPS = 20_000
_DISCOUNT = 0.99


def toy_text_problem(name: str, environment: gymnasium.Env) -> FiniteMDP | None:
    """Return an environment with a transition table as a finite problem under the uniform policy.

    None where it has no table, where wrappers other than a time limit lie around it, and where it
    does not do what its table says. Observations are one-hot, as they are without a table, and a
    time limit is left out. Rewards of one transition with several are averaged. Raises ValueError
    where the uniform policy has no single stationary distribution.
    """
    inner = without_time_limit(environment)
    table, starts = getattr(inner, "P", None), getattr(inner, "initial_state_distrib", None)
    observed, acted = inner.observation_space, inner.action_space
    if table is None or starts is None or inner is not environment.unwrapped:
        return None
    # Taxi's passenger, where it is fickle, changes its mind in `step` and not in the table, and so
    # seldom that a trial may miss it.
    if getattr(inner, "fickle_passenger", False):
        return None
    if not isinstance(observed, spaces.Discrete) or not isinstance(acted, spaces.Discrete):
        return None
    states, actions = int(observed.n), int(acted.n)
    if observed.start or acted.start or set(table) != set(range(states)):
        return None
    if not _follows_table(inner, table, actions):
        return None
    transition = torch.zeros(states, actions, states, dtype=torch.float64)
    reward = torch.zeros_like(transition)
    termination = torch.zeros(states, actions, dtype=torch.float64)
    terminal_reward = torch.zeros_like(termination)
    for state in range(states):
        for action in range(actions):
            for probability, following, gain, ended in table[state][action]:
                if ended:
                    termination[state, action] += probability
                    terminal_reward[state, action] += probability * gain
                else:
                    transition[state, action, following] += probability
                    reward[state, action, following] += probability * gain
    happens, ends = transition > 0, termination > 0
    reward[happens] /= transition[happens]
    terminal_reward[ends] /= termination[ends]
    limit = getattr(environment.spec, "max_episode_steps", None)
    unlimited = f", without its limit of {limit} steps" if limit else ""
    return finite_mdp(
        transition,
        reward,
        _DISCOUNT,
        termination=termination,
        terminal_reward=terminal_reward,
        start=np.asarray(starts, dtype=np.float64),
        steps=_STEPS,
        name=name,
        notes=(f"{name} is taken from its transition table{unlimited}: its errors are exact",),
    )


def _follows_table(environment: gymnasium.Env, table: Any, actions: int) -> bool:
    """Tell whether an environment does what its table says, for some steps of random actions."""
    source = np.random.default_rng(0)
    state, _ = environment.reset(seed=0)
    for action in source.integers(actions, size=TRIED_STEPS):
        following, reward, terminated, *_ = environment.step(int(action))
        if not any(
            probability > 0 and (following, reward, terminated) == (state_, reward_, ended)
            for probability, state_, reward_, ended in table[int(state)][int(action)]
        ):
            return False
        state = environment.reset()[0] if terminated else following
    return True
