"""What actions an environment takes: how a policy's are drawn, given to it, and weighted.

A policy for discrete actions is a function from raw observations [n, …] to probabilities
[n, actions] or to a `torch.distributions.Categorical`. One for continuous actions is a function to
a distribution of actions [n, *action], or, without chance, to the actions themselves. For both it
may be an object with `sample(observation, generator)` and, for ratios,
`log_probability(observation, action)`.

Every action is drawn from uniform numbers that are known beforehand, so that it does not depend on
which other environments are asked at the same time.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.distributions import Distribution

from envs.control.densities import inverse, log_density
from envs.control.policies import (
    Policy,
    asked,
    decisions,
    is_sampler,
    policy_name,
    probabilities,
    uniform,
)
from envs.control.samplers import first_shown, sampled_actions, sampler_log_probability

# From a time, which of the environments [m] and their observations [m, …] to actions [m, *action].
Decide = Callable[[int, np.ndarray, np.ndarray], np.ndarray]


class DiscreteActions(NamedTuple):
    """One of `size` actions, which the environment numbers from `start`."""

    name: str
    size: int
    start: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of an action."""
        return ()

    @property
    def dtype(self) -> Any:
        """Return what an action is stored as."""
        return np.int64

    @property
    def numbers(self) -> tuple[int, ...]:
        """Return the shape of the uniform numbers that an action is drawn from."""
        return ()

    def uniform(self) -> Policy:
        """Make the policy that draws every action with the same probability."""
        return uniform(self.size)

    def decisions(self, policy: Policy, level: np.ndarray, *, together: bool) -> Decide:
        """Return what draws actions, numbered from 0, from uniform numbers [n, time].

        together: whether a policy that samples by itself may be asked for several at once

        What is returned raises ValueError where the policy samples anything else.
        """
        if not is_sampler(policy):
            return decisions(policy, level, self.size)

        def decide(time: int, which: np.ndarray, observation: np.ndarray) -> np.ndarray:
            action = sampled_actions(policy, observation, level[which, time], together)
            whole = action == np.floor(action)
            if action.shape != which.shape or not (whole & (action >= 0)).all():
                raise ValueError(
                    f"the policy {policy_name(policy)} sampled {first_shown(action)}; it must "
                    f"sample whole numbers [{len(which)}] from 0 to {self.size - 1}"
                )
            return action.astype(np.int64)

        return decide

    def samples_itself(self, policy: Policy, observation: np.ndarray) -> bool:
        """Tell whether a policy draws its actions by itself, not from the uniform numbers."""
        return is_sampler(policy)

    def answers(self, policy: Policy, observation: np.ndarray) -> np.ndarray:
        """Return probabilities [n, actions], or its actions [n] by fixed generators."""
        if is_sampler(policy):
            return _tried(self, policy, observation)
        return probabilities(policy, observation, self.size)

    def executed(self, action: np.ndarray) -> np.ndarray:
        """Return actions [n], numbered from 0, as the environment numbers them."""
        return action + self.start

    def log_densities(self, policy: Policy, observation: np.ndarray, action: np.ndarray) -> Any:
        """Return the logarithms of the probabilities of actions, [n]."""
        if is_sampler(policy):
            return sampler_log_probability(policy, observation, action)
        rows = probabilities(policy, observation, self.size)
        with np.errstate(divide="ignore"):
            return np.log(rows[np.arange(len(rows)), action])


class BoxActions(NamedTuple):
    """A vector or an array of numbers between bounds, each of the shape of an action."""

    name: str
    low: np.ndarray
    high: np.ndarray
    dtype: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of an action."""
        return self.low.shape

    @property
    def numbers(self) -> tuple[int, ...]:
        """Return the shape of the uniform numbers that an action is drawn from."""
        return self.low.shape

    def uniform(self) -> Policy:
        """Make the policy whose actions are uniform between the bounds; ValueError without any."""
        low, high = (torch.from_numpy(end.astype(np.float64)) for end in (self.low, self.high))
        if not (low.isfinite() & high.isfinite()).all():
            raise ValueError(
                f"{self.name} has actions without bounds, so that none are uniform: give a policy"
            )

        def policy(observation: Tensor) -> Distribution:
            rows = (len(observation), *self.shape)
            return torch.distributions.Uniform(low.expand(rows), high.expand(rows))

        policy.__name__ = "uniform"
        return policy

    def decisions(self, policy: Policy, level: np.ndarray, *, together: bool) -> Decide:
        """Return what draws actions from uniform numbers [n, time, *action].

        It raises ValueError where the policy gives anything but finite actions [n, *action].
        """

        def decide(time: int, which: np.ndarray, observation: np.ndarray) -> np.ndarray:
            levels = level[which, time]
            action = None
            if not is_sampler(policy):
                answer = self._answer(policy, observation)
                action = answer if isinstance(answer, np.ndarray) else inverse(answer, levels)
            if action is None:
                first = levels.reshape(len(levels), -1)[:, 0]
                action = sampled_actions(policy, observation, first, together)
            if action.shape != (len(which), *self.shape) or not np.isfinite(action).all():
                raise ValueError(
                    f"the policy {policy_name(policy)} gave {first_shown(action)}; it must give "
                    f"finite actions {[len(which), *self.shape]}"
                )
            return action

        return decide

    def samples_itself(self, policy: Policy, observation: np.ndarray) -> bool:
        """Tell whether a policy draws its actions by itself, not from the uniform numbers."""
        if is_sampler(policy):
            return True
        answer = self._answer(policy, observation)
        levels = np.full((len(observation), *self.shape), 0.5)
        return isinstance(answer, Distribution) and inverse(answer, levels) is None

    def answers(self, policy: Policy, observation: np.ndarray) -> np.ndarray:
        """Return the actions [n, *action] that a policy draws from fixed numbers."""
        return _tried(self, policy, observation)

    def executed(self, action: np.ndarray) -> np.ndarray:
        """Return actions [n, *action] clipped to the bounds, as the environment takes them."""
        return np.clip(action, self.low, self.high).astype(self.dtype)

    def log_densities(self, policy: Policy, observation: np.ndarray, action: np.ndarray) -> Any:
        """Return the logarithms of the densities of actions, [n]; ValueError without a density."""
        if is_sampler(policy):
            return sampler_log_probability(policy, observation, action)
        answer = self._answer(policy, observation)
        if isinstance(answer, np.ndarray):
            raise ValueError(
                f"the policy {policy_name(policy)} has no density: it returns actions and no "
                "distribution, so that no importance ratio is defined; leave out the behaviour"
            )
        return log_density(answer, torch.from_numpy(action)).double().numpy()

    def _answer(self, policy: Any, observation: np.ndarray) -> Distribution | np.ndarray:
        given = asked(policy, observation)
        rows = [len(observation), *self.shape]
        if isinstance(given, Distribution):
            found = [*given.batch_shape, *given.event_shape]
        elif isinstance(given, Tensor | np.ndarray):
            given = torch.as_tensor(given).detach().cpu().double().numpy()
            found = list(given.shape)
        else:
            found = [type(given).__name__]
        if found != rows:
            raise ValueError(
                f"the policy {policy_name(policy)} returned {found}; for the actions of "
                f"{self.name} it must return a torch.distributions.Distribution of {rows}, or "
                f"actions {rows}"
            )
        return given


Actions = DiscreteActions | BoxActions


def _tried(actions: "Actions", policy: Policy, observation: np.ndarray) -> np.ndarray:
    rows = len(observation)
    level = np.full((rows, 1, *actions.numbers), 0.5)
    level += 0.3 * np.linspace(-1, 1, rows).reshape(rows, *[1] * (level.ndim - 1))
    return actions.decisions(policy, level, together=False)(0, np.arange(rows), observation)


def actions_of(name: str, space: gymnasium.Space) -> Actions:
    """Return the kind of actions that an environment takes.

    ValueError: neither one discrete choice nor an array of real numbers.
    """
    if isinstance(space, spaces.Discrete):
        return DiscreteActions(name, int(space.n), int(space.start))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return BoxActions(name, space.low, space.high, space.dtype.type)
    raise ValueError(
        f"{name} has the action space {space}; only Discrete and Box of real numbers can be "
        "evaluated here"
    )
