"""What a step size moves, and the step sizes that move it."""

from typing import Any, NamedTuple

from torch import Tensor


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
