"""Algorithm 1, for one run and for many.

    ω ← ω + η_k (ρδ − φᵀω) φ
    θ ← Π_Θ( θ + β_k ρ(δφ − γ_tφ'(φᵀω)) )
    W ← Π_W( W − α_k [(∂φ)ᵀc + (∂φ')ᵀc'] )

All right-hand sides are taken at step k. The directions come from a rule of
`neural_tdc.rules.registry` (`tdc` gives the lines above), the step sizes from the caller, each
part's own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_map

from neural_tdc.learning.compilation import compiled_at_first_call
from neural_tdc.learning.optimisers import SGD, Optimizer, initial_second_moment, precondition
from neural_tdc.learning.projections import Projection, projection
from neural_tdc.rules.rule import Rule
from neural_tdc.types import FeatureMap, Parameters, StepSizes, Transition


class Algorithm(NamedTuple):
    """What all runs of a population have in common."""

    rule: Rule
    features: FeatureMap
    optimizer: Optimizer = SGD
    project: Projection = projection("none")


class State(NamedTuple):
    """What one run carries from step to step.

    rule_state:    what the rule keeps besides the parameters
    second_moment: RMSProp's mean squares of each part, {} for a part without
    """

    parameters: Parameters
    rule_state: Any
    second_moment: Parameters


def initial_state(algorithm: Algorithm, parameters: Parameters, rule_state: Any) -> State:
    """Return the state before the first step."""
    return State(parameters, rule_state, initial_second_moment(algorithm.optimizer, parameters))


def step(algorithm: Algorithm, state: State, batch: Transition, step_sizes: StepSizes) -> State:
    """Take one step of one run: directions, step sizes, projection.

    batch: transitions with a leading batch axis; the directions are means over it.
    step_sizes: α_k, β_k, η_k as they are at this step.
    """
    rule, features, optimizer, project = algorithm
    parameters, rule_state, second_moment = state
    rule_state = rule.update(features, parameters, batch, rule_state)
    directions = rule.directions(features, parameters, batch, rule_state)
    directions, second_moment = precondition(optimizer, directions, second_moment)
    moved = (
        tree_map(partial(_subtract, size), part, direction)
        for size, part, direction in zip(step_sizes, parameters, directions)
    )
    body, head, auxiliary = moved
    return State(Parameters(project(body), project(head), auxiliary), rule_state, second_moment)


def _subtract(size: Any, value: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    return value - size * direction


Step = Callable[[State, Transition, StepSizes], State]


def population(step: Step, compile: bool = False) -> Step:
    """Return the step of many runs at once: every tensor has a leading run axis.

    step:    one run's step, e.g. `functools.partial(neural_tdc.step, algorithm)`.
    compile: as the learner does it, at the first call with tensors of these shapes

    Runs do not touch one another: one that diverges leaves the others' bits as they are.
    """
    batched = torch.vmap(step)

    def many(state: State, batch: Transition, step_sizes: StepSizes) -> State:
        if batch.first is None:
            # vmap takes nothing but tensors.
            batch = batch._replace(first=torch.zeros_like(batch.reward))
        return batched(state, batch, step_sizes)

    if not compile:
        return many
    program = compiled_at_first_call(lambda state, constant: many(state, *constant))
    return lambda state, batch, step_sizes: program(state, (batch, step_sizes))
