"""Stochastic descent on two time scales, for a population of runs and several schedules at once.

    W ← Π(W − α_k ĝ_W(W, θ)),   θ ← Π(θ − β_k ĝ_θ(W, θ)),   both right-hand sides at k

(2) of arXiv 2605.15530, on instances whose reduced objective is known exactly; they are made in
`experiments.convergence.instances`. Leading axes are [schedule, run]: the runs of all schedules see
the same samples.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.stackelberg.moreau import scalar_moreau_envelope
from neural_tdc.stackelberg.newton import moreau_gradients
from neural_tdc.stackelberg.problems import (
    StackelbergProblem,
    reduced_objective,
)
from neural_tdc.types import Parameters, StepSizes


class Instance(NamedTuple):
    """A stochastic problem and its exact reduced view.

    start:      before the first update, of one run: body W, head θ, auxiliary ω (may be empty)
    draw:       (generator, updates) → [update, …] the samples of one run
    directions: (Parameters [schedule, run, …], samples [run, …]) → what is subtracted
    bounds:     low and high of every component of the body and of the head, the constraint sets
    problem:    f(W, θ) and θ*(W) of one run
    minimiser:  W*, the local minimum of Φ downhill from the start
    """

    start: Parameters
    draw: Callable[[torch.Generator, int], Tensor]
    directions: Callable[[Parameters, Tensor], Parameters]
    bounds: tuple[tuple[float, float], tuple[float, float]]
    problem: StackelbergProblem
    minimiser: Tensor

    def reduced(self, body: Tensor) -> Float[Tensor, ""]:
        """Return Φ(W) of one body; a flat body is brought to its shape."""
        return reduced_objective(self.problem, body.reshape(self.start.body.shape))


def descend(
    instance: Instance, parameters: Parameters, step_sizes: StepSizes, samples: Tensor
) -> Parameters:
    """Take one update a sample.

    parameters: [schedule, run, …] each;  step_sizes: [update, schedule] each;
    samples:    [update, run, …]
    """
    (low, high), (head_low, head_high) = instance.bounds
    sizes = [
        size.reshape(*size.shape, *[1] * (part.ndim - 1))
        for part, size in zip(parameters, step_sizes)
    ]
    body, head, auxiliary = parameters
    for update, sample in enumerate(samples):
        move = instance.directions(Parameters(body, head, auxiliary), sample)
        body = (body - sizes[0][update] * move.body).clamp(low, high)
        head = (head - sizes[1][update] * move.head).clamp(head_low, head_high)
        if auxiliary.numel():
            auxiliary = auxiliary - sizes[2][update] * move.auxiliary
    return Parameters(body, head, auxiliary)


def images(body: Tensor) -> Float[Tensor, "image *body"]:
    """Return what Φ cannot tell from a body: hidden units exchanged, and their signs changed.

    Holds for weights [input, feature] with an odd activation; a scalar has no image but itself.
    """
    if body.ndim == 1:
        return body[None]
    features = body.shape[1]
    signs = itertools.product((1.0, -1.0), repeat=features)
    orders = itertools.permutations(range(features))
    return torch.stack(
        [
            body[:, list(order)] * body.new_tensor(sign)
            for order, sign in itertools.product(orders, signs)
        ]
    )


class Errors(NamedTuple):
    """What the theorems bound, of each run.

    moreau: ‖∇Φ_τ(W)‖², the squared gradient of the Moreau envelope
    body:   ‖W − W*‖², W* being the nearest of its `images`
    head:   ‖θ − θ*(W)‖²
    """

    moreau: Tensor
    body: Tensor
    head: Tensor


def errors(instance: Instance, body: Tensor, head: Tensor, smoothing: float) -> Errors:
    """Return the squared errors of many runs; body, head: [run, …]; smoothing: τ."""
    flat = body.reshape(len(body), -1)
    low, high = instance.bounds[0]
    if flat.shape[1] == 1:
        envelope = scalar_moreau_envelope(
            torch.func.vmap(instance.reduced), flat[:, 0], smoothing, low, high
        )
        slope = envelope.gradient[:, None]
    else:
        slope = moreau_gradients(instance.reduced, flat, smoothing)
        nearest = flat - smoothing * slope
        if bool(((nearest < low) | (nearest > high)).any()):
            raise ValueError("a proximal point leaves the constraint set: give it a larger bound")
    best = torch.func.vmap(instance.problem.best_response)(body)
    return Errors(
        slope.square().sum(1),
        (body[:, None] - images(instance.minimiser)).square().flatten(2).sum(2).amin(1),
        (head - best).square().reshape(len(head), -1).sum(1),
    )
