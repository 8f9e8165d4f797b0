"""Algorithm 1, for one run and for many.

    ω ← ω + η_k (ρδ − φᵀω) φ
    θ ← Π_Θ( θ + β_k ρ(δφ − γ_tφ'(φᵀω)) )
    W ← Π_W( W − α_k [(∂φ)ᵀc + (∂φ')ᵀc'] )

All right-hand sides are taken at step k. The directions come from a rule of
`neural_tdc.rules.registry` (`tdc` gives the lines above), the step sizes from the caller, each
part's own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_map

from neural_tdc.compiled.compilation import compiled_at_first_call
from neural_tdc.learning.averaging import NO_AVERAGE, Averaging, initial_average, updated_average
from neural_tdc.learning.optimisers import (
    PLAIN_STEPS,
    PartOptimizers,
    initial_optimizer_state,
    optimized,
)
from neural_tdc.learning.projections import Projection, projection
from neural_tdc.rules.rule import Rule
from neural_tdc.types import FeatureMap, Parameters, StepSizes, Transition


class Algorithm(NamedTuple):
    """What all runs of a population have in common."""

    rule: Rule
    features: FeatureMap
    optimizers: PartOptimizers = PLAIN_STEPS
    project: Projection = projection("none")
    averaging: Averaging = NO_AVERAGE


class State(NamedTuple):
    """What one run carries from step to step.

    rule_state:      what the rule keeps in addition to the parameters
    optimizer_state: what each part's optimiser keeps, {} for one that keeps nothing
    average:         the means of the parameters over the updates, {} where nothing is averaged
    """

    parameters: Parameters
    rule_state: Any
    optimizer_state: Parameters
    average: Any


def initial_state(algorithm: Algorithm, parameters: Parameters, rule_state: Any) -> State:
    """Return the state of one run before its first step; rule_state: as `Rule.init` gives it."""
    return State(
        parameters,
        rule_state,
        initial_optimizer_state(algorithm.optimizers, parameters),
        initial_average(algorithm.averaging, parameters),
    )


def step(algorithm: Algorithm, state: State, batch: Transition, step_sizes: StepSizes) -> State:
    """Take one step of one run: directions, optimisers, projection.

    batch: transitions with a leading batch axis; the directions are means over it.
    step_sizes: α_k, β_k, η_k as they are at this step.
    """
    rule, features, optimizers, project, averaging = algorithm
    parameters, rule_state, optimizer_state, average = state
    rule_state = rule.update(features, parameters, batch, rule_state)
    directions = rule.directions(features, parameters, batch, rule_state)
    subtracted, optimizer_state = optimized(optimizers, directions, optimizer_state, step_sizes)
    body, head, auxiliary = (
        tree_map(torch.sub, part, amount) for part, amount in zip(parameters, subtracted)
    )
    moved = Parameters(project(body), project(head), auxiliary)
    average = updated_average(averaging, average, moved)
    return State(moved, rule_state, optimizer_state, average)


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
