"""Fixed policies: functions of raw observations, or objects that sample actions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Sampler(Protocol):
    """A policy that draws its actions itself.

    For importance ratios it also has `log_probability(observation, action) -> [n]`.
    """

    def sample(self, observation: Tensor, generator: torch.Generator) -> Any:
        """Return actions [n, …] at observations [n, …], drawn with the generator."""


# What a function returns is told in `envs.control.actions`.
Policy = Callable[[Tensor], Any] | Sampler

# A softmax in float32 sums to one within this.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class TablePolicy:
    """A policy with few distributions, one of which holds at every observation.

    name:  how messages call it
    row:   from observations [n, …], an array or a tensor, to row numbers [n] of the same kind
    table: [row, action] float32, the probabilities

    The numbers that actions are drawn with can so be turned into actions before it is known
    where they will be needed, and no tensor is made for a step.
    """

    name: str
    row: Callable[[Any], Any]
    table: Tensor

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, observation: Tensor) -> Tensor:
        """Return the probabilities [n, action] at observations [n, …]."""
        return self.table[self.row(observation)]


def _exploring(actions: int, epsilon: float) -> Tensor:
    """Return [actions, actions]: row a holds the probabilities of ε-greedy around action a."""
    return (1 - epsilon) * torch.eye(actions) + epsilon / actions


def uniform(actions: int) -> Policy:
    """Make the policy that draws every one of `actions` actions with the same probability."""
    table = torch.full((1, actions), 1 / actions)
    return TablePolicy("uniform", lambda observation: [0] * len(observation), table)


def mountain_car(epsilon: float) -> Policy:
    """Make the policy that pushes the mountain car along its velocity, which always adds energy.

    With probability `epsilon` the action is drawn uniformly instead.
    """
    return TablePolicy(
        f"energy pumping with ε = {epsilon}",
        lambda observation: 2 * (observation[:, 1] >= 0),
        _exploring(3, epsilon),
    )


def cart_pole(epsilon: float) -> Policy:
    """Make the policy that pushes the cart to where the pole leans or falls: θ + 0.3 s · θ̇ > 0.

    With probability `epsilon` the action is drawn uniformly instead.
    """
    return TablePolicy(
        f"balancing with ε = {epsilon}",
        lambda observation: 1 * (observation[:, 2] + 0.3 * observation[:, 3] > 0),
        _exploring(2, epsilon),
    )


def acrobot(epsilon: float) -> Policy:
    """Make the policy whose torque follows the second joint's velocity, which always adds energy.

    With probability `epsilon` the action is drawn uniformly instead.
    """
    return TablePolicy(
        f"energy pumping with ε = {epsilon}",
        lambda observation: 2 * (observation[:, 5] >= 0),
        _exploring(3, epsilon),
    )


def pendulum(deviation: float) -> Policy:
    """Make the policy that swings the pendulum up and balances it, with normal noise on its torque.

    Near the top the mean torque is −10 sin θ − 2 θ̇; elsewhere θ̇(5 − E) for the energy
    E = θ̇²/6 + 5 cos θ, which is 5 at rest on top. Both are kept within the bounds ±2.
    """

    def policy(observation: Tensor) -> torch.distributions.Distribution:
        upward, aside, speed = observation.unbind(1)
        swinging = speed * (5 - speed.square() / 6 - 5 * upward)
        mean = torch.where(upward > 0.9, -10 * aside - 2 * speed, swinging).clamp(-2, 2)
        return torch.distributions.Normal(mean[:, None], deviation, validate_args=False)

    policy.__name__ = f"swinging up with noise of {deviation}"
    return policy


# What the names "default" and "soft" mean for a problem; "uniform" means the same for all.
POLICIES: dict[str, dict[str, Policy]] = {
    "MountainCar-v0": {"default": mountain_car(0.1), "soft": mountain_car(0.5)},
    "CartPole-v1": {"default": cart_pole(0.3), "soft": cart_pole(0.6)},
    "Acrobot-v1": {"default": acrobot(0.1), "soft": acrobot(0.5)},
    "Pendulum-v1": {"default": pendulum(0.2), "soft": pendulum(1.0)},
}


def policy_name(policy: Policy) -> str:
    """Return how messages call a policy: its own name, or that of its type."""
    return getattr(policy, "__name__", type(policy).__name__)


def is_sampler(policy: Any) -> TypeGuard[Sampler]:
    """Tell whether a policy draws its actions itself."""
    return hasattr(policy, "sample")


def asked(policy: Any, observation: Float[np.ndarray, "n ..."]) -> Any:
    """Return what a policy returns at raw observations; ValueError where it fails."""
    # A copy: a policy that scales its input in place must not touch the stored experience.
    try:
        return policy(torch.from_numpy(observation.copy()))
    except Exception as error:  # a user's own function, which can fail in any way
        raise ValueError(
            f"the policy {policy_name(policy)} failed on observations of shape "
            f"{list(observation.shape)}: {type(error).__name__}: {error}"
        ) from error


def probabilities(
    policy: Policy, observation: Float[np.ndarray, "n ..."], actions: int
) -> Float[np.ndarray, "n actions"]:
    """Ask a policy for the probabilities [n, actions] of raw observations [n, …], in float64.

    ValueError: the policy fails, the answer has another shape, or a row is no distribution
    (negative, not finite, a sum that is off by more than 1e-5).
    """
    given = asked(policy, observation)
    if isinstance(given, torch.distributions.Categorical | torch.distributions.OneHotCategorical):
        given = given.probs
    if not isinstance(given, torch.Tensor | np.ndarray):
        raise ValueError(
            f"the policy {policy_name(policy)} returned {type(given).__name__}; "
            f"it must return a tensor of probabilities [{len(observation)}, {actions}]"
        )
    answer = torch.as_tensor(given).detach().cpu().double().numpy()
    if answer.shape != (len(observation), actions):
        raise ValueError(
            f"the policy {policy_name(policy)} returned the shape {list(answer.shape)}; "
            f"it must return probabilities [{len(observation)}, {actions}]"
        )
    # Written so that a NaN fails the second comparison.
    off = np.abs(answer.sum(1) - 1)
    if answer.min() < 0 or not off.max() <= _TOLERANCE:
        wrong = (answer < 0).any(1) | ~(off <= _TOLERANCE)
        raise ValueError(
            f"the policy {policy_name(policy)} returned the row {answer[wrong][0].tolist()}; "
            "probabilities must be finite, not negative, and sum to 1"
        )
    return answer


def drawn(
    probability: Float[np.ndarray, "n actions"], uniform: Float[np.ndarray, " n"]
) -> np.ndarray:
    """Draw one action a row by inverting its distribution at `uniform` in [0, 1): integers [n].

    An action of probability 0 is never drawn.
    """
    reached = probability.cumsum(1)
    # Times the last sum rather than 1, since rows sum to 1 only nearly: the product stays below
    # it, so that an action of probability 0 at the end of a row stays out of reach.
    level = uniform * reached[:, -1]
    return (reached <= level[:, None]).sum(1)


def decisions(
    policy: Policy, uniform: Float[np.ndarray, "n time"], actions: int
) -> Callable[[int, np.ndarray, np.ndarray], np.ndarray]:
    """Return what takes a policy's actions from the uniform numbers of n environments.

    The result takes a time, which of the environments [m], and their observations [m, …]; it
    returns the drawn actions [m] and raises as `probabilities` does.
    """
    if isinstance(policy, TablePolicy) and policy.table.shape[1] == actions:
        table = policy.table.double().numpy()
        each = [np.broadcast_to(row, (uniform.size, actions)) for row in table]
        drawn_by_row = np.stack([drawn(row, uniform.ravel()) for row in each])
        choices = drawn_by_row.reshape(len(table), *uniform.shape)
        return lambda time, which, observation: choices[policy.row(observation), which, time]
    return lambda time, which, observation: drawn(
        probabilities(policy, observation, actions), uniform[which, time]
    )
