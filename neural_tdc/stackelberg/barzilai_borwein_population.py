"""Automatic learning rates for a population: `barzilai_borwein.AutomaticRate`, run by run at once.

Inspired by arXiv 2508.13639, whose own rule could not be read: see
`neural_tdc.stackelberg.barzilai_borwein`.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from neural_tdc.networks.mlp_population import NetworkObjective, gradients
from neural_tdc.stackelberg.barzilai_borwein import Kind, secant_rate
from neural_tdc.types import Parameters


class PerPart(NamedTuple):
    """A number for body and head of every run, [run] each."""

    body: Tensor
    head: Tensor


class AutomaticRule(NamedTuple):
    """How a population sets its rates.

    momentum: [run] μ of SGD with momentum, 0 without
    sign:     [run] whether the run descends along the sign of the gradient
    first:    the rates of the first update, before there is a secant pair
    low, high, kind: as in `secant_rate`
    """

    momentum: Float[Tensor, " run"]
    sign: Bool[Tensor, " run"]
    first: PerPart
    low: float
    high: float
    kind: Kind


class AutomaticState(NamedTuple):
    """What an automatic rate carries on.

    before:   the parameters one update ago
    momentum: SGD's buffers
    steps:    the last Barzilai-Borwein steps; NaN before there is one
    rates:    the rates of the last update, and
    norms:    the gradient norms that went with them
    """

    parameters: Parameters
    before: Parameters
    momentum: Parameters
    steps: PerPart
    rates: PerPart
    norms: PerPart


def automatic_state(parameters: Parameters, first: PerPart) -> AutomaticState:
    """Return the state before the first update."""
    none = PerPart(*(torch.full_like(rate, torch.nan) for rate in first))
    zeros = tree_map(torch.zeros_like, parameters)
    return AutomaticState(parameters, parameters, zeros, none, first, none)


def automatic_update(
    objective: NetworkObjective,
    rule: AutomaticRule,
    state: AutomaticState,
    inputs: Float[Tensor, "run sample input"],
    target: Tensor,
    update: Int[Tensor, ""],
) -> AutomaticState:
    """Take update number `update` = 0, 1, … of every run; target: [run, sample].

    The gradients of the secant pair are both taken on the batch given, so that an update costs two.
    """
    slopes = gradients(objective, state.parameters, inputs, target)
    former = gradients(objective, state.before, inputs, target)
    begins = update == 0
    after: list[Any] = []
    momentum: list[Any] = []
    steps, rates, norms = [], [], []
    for part, known, first in zip(PerPart._fields, state.steps, rule.first):
        here, gradient = getattr(state.parameters, part), getattr(slopes, part)
        flat = _flat(gradient)
        tiny = torch.finfo(flat.dtype).tiny
        factor = torch.where(rule.sign, flat.abs().mean(1).clamp(min=tiny), 1 - rule.momentum)
        usual = (first / factor).clamp(rule.low, rule.high)
        step = torch.vmap(partial(secant_rate, low=rule.low, high=rule.high, kind=rule.kind))(
            _flat(here) - _flat(getattr(state.before, part)),
            flat - _flat(getattr(former, part)),
            torch.where(known.isnan(), usual, known),
        )
        rate = torch.where(begins, first, step * factor)
        buffer = tree_map(
            lambda kept, slope: _scaled(rule.momentum, kept) + slope,
            getattr(state.momentum, part),
            gradient,
        )
        direction = tree_map(partial(_direction, rule.sign), gradient, buffer)
        after.append(descended(rate, here, direction))
        momentum.append(buffer)
        steps.append(torch.where(begins, torch.nan, step))
        rates.append(rate)
        norms.append(flat.norm(dim=1))
    return AutomaticState(
        Parameters(after[0], after[1], {}),
        state.parameters,
        Parameters(momentum[0], momentum[1], {}),
        PerPart(*steps),
        PerPart(*rates),
        PerPart(*norms),
    )


def _flat(tree: object) -> Float[Tensor, "run size"]:
    return torch.cat([leaf.flatten(1) for leaf in tree_leaves(tree)], 1)


def _per_run(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *([1] * (like.dim() - 1)))


def _scaled(factor: Tensor, leaf: Tensor) -> Tensor:
    return _per_run(factor, leaf) * leaf


def _direction(sign: Tensor, slope: Tensor, buffer: Tensor) -> Tensor:
    return torch.where(_per_run(sign, slope), slope.sign(), buffer)


def descended(rate: Float[Tensor, " run"], part: Any, direction: Any) -> Any:
    """Return body or head of all runs after a step, each run at its own rate.

    part, direction: tensors with a leading run axis, or trees of them
    """
    return tree_map(lambda leaf, along: leaf - _scaled(rate.to(leaf.dtype), along), part, direction)
