"""The containers of the library: transitions, parameters and step sizes."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor


class Transition(NamedTuple):
    """A batch of transitions (s, r, s'); every field has the batch as its leading axis.

    The discount travels with the transition, so that no learning rule knows of episodes: it is
    γ, also where an episode was cut by a time limit, and 0 where the episode ended.

    observation:       [batch, *observation] s, or row numbers into a table of observations
    reward:            [batch] r, in the environment's own unit
    discount:          [batch] γ_t = γ · (1 − terminated)
    next_observation:  [batch, *observation] s', the true last observation at an episode's end
    ratio:             [batch] ρ = π(a|s) / b(a|s), 1 on-policy
    first:             [batch] 1 where the transition starts an episode; None means 0 everywhere
    """

    observation: Tensor
    reward: Tensor
    discount: Tensor
    next_observation: Tensor
    ratio: Tensor
    first: Tensor | None = None


def mapped(transitions: Transition, function: Callable[[Tensor], Tensor]) -> Transition:
    """Apply a function to every field that is there."""
    fields = {name: leaf for name, leaf in transitions._asdict().items() if leaf is not None}
    return Transition(**{name: function(leaf) for name, leaf in fields.items()})


class Parameters(NamedTuple):
    """The parameters of one run, or of many with a leading run axis.

    body:       W, a dict of tensors (empty where the features are given)
    head:       θ, [feature]
    auxiliary:  ω, [feature]; empty for a rule without one, end to end for a rule with two
    """

    body: Any
    head: Tensor
    auxiliary: Any


class StepSizes(NamedTuple):
    """The step sizes of the three parts, α (body), β (head), η (auxiliary); numbers or tensors."""

    body: Any
    head: Any
    auxiliary: Any
