"""The types that all of the library shares: transitions, parameters, step sizes, measurements."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

Body = dict[str, Tensor]
FeatureMap = Callable[[Body, Tensor], Tensor]
MakeBody = Callable[[tuple[int, ...]], nn.Module]


class Transition(NamedTuple):
    """A batch of transitions (s, r, s'); every field has the batch as its leading axis.

    The discount travels with the transition, so that no learning rule knows of episodes: it is
    γ, also where an episode was cut by a time limit, and 0 where the episode ended.

    observation:       [batch, *observation] s, or row numbers into a table of observations
    reward:            [batch] r, in the environment's own unit
    discount:          [batch] γ_t = γ · (1 − terminated)
    next_observation:  [batch, *observation] s', the true last observation at an episode's end
    ratio:             [batch] ρ = π(a|s) / b(a|s), 1 on-policy
    first:             [batch] 1 where the transition starts an episode; None means 0 everywhere.
                       What a trace or a λ-return carries here is multiplied by 1 − `first`, and
                       batches for values of actions have 1 − ρ where an episode continues
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
    auxiliary:  the auxiliary vectors by name, e.g. {"tdc": ω [feature]}; {} for a rule without one
    """

    body: Any
    head: Tensor
    auxiliary: Any


class StepSizes(NamedTuple):
    """The step sizes of the three parts, α (body), β (head), η (auxiliary); numbers or tensors."""

    body: Any
    head: Any
    auxiliary: Any


# From the parameters of all runs, in float64, to named values, [run] each.
Evaluator = Callable[[Parameters], dict[str, Tensor]]


class Measurement(NamedTuple):
    """What is known of a population after an update.

    step:     updates done
    values:   {name: [run]} float64 on the CPU, NaN for a diverged run
    diverged: [run] whether the run has ever diverged, on the CPU
    state:    the population's state on the device, e.g. for a checkpoint
    parameters: those that were measured and that give the values: averaged where parts are
        averaged, in the unit of the rewards as they were given
    """

    step: int
    values: dict[str, Tensor]
    diverged: Tensor
    state: Any
    parameters: Any
