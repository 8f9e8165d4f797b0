"""Supervised learning with split rates: a population of arms × seeds on the same batches.

An arm is a choice of learning rates. All arms of a seed start from the same network and see the
same samples; arms × seeds are one population, whose products are batched. Run a·seeds + s of a
population is seed s of its arm a. Source: section 5.4 of arXiv 2605.15530.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils._pytree import tree_map

from neural_tdc.compiled.compilation import compile_repeatable
from neural_tdc.compiled.device_updates import device_updates
from neural_tdc.learning.optimisers import PartOptimizers, initial_optimizer_state, optimized
from neural_tdc.learning.projections import Projection
from neural_tdc.learning.schedules import Schedule
from neural_tdc.networks.mlp_population import NetworkObjective, gradients
from neural_tdc.randomness import draw
from neural_tdc.stackelberg.barzilai_borwein import Kind
from neural_tdc.stackelberg.barzilai_borwein_population import (
    AutomaticRule,
    PerPart,
    automatic_state,
    automatic_update,
)
from neural_tdc.types import Parameters, StepSizes

AUTOMATIC_ARMS = ("automatic-sgd", "automatic-momentum", "automatic-sign")
SUPERVISED_ARMS = ("split", "body-rate", "head-rate", "limit", *AUTOMATIC_ARMS)
MOMENTUM = 0.9


class Samples(NamedTuple):
    """What every seed learns from: samples of its own, or of all seeds together.

    inputs: [sample, input]
    target: [sample, output], or the labels [sample]
    first:  [seed] where the samples of each seed begin
    size:   how many samples each seed has
    """

    inputs: Tensor
    target: Tensor
    first: Tensor
    size: int

    def of(self, seed: int, most: int | None = None) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of one seed, all or the first `most`."""
        begin = int(self.first[seed])
        end = begin + (self.size if most is None else min(self.size, most))
        return self.inputs[begin:end], self.target[begin:end]


class Rates(NamedTuple):
    """The base rates of the arms, and the range of automatic steps.

    body, head: α and β of the arm `split`
    """

    body: float
    head: float
    low: float = 1e-5
    high: float = 1.0
    kind: Kind = "long"


class Responder(NamedTuple):
    """When and how well the arm `limit` answers: θ = θ*(W) on a seed's first samples.

    every:     updates from one answer to the next
    samples:   at most so many are answered
    tolerance: of the softmax response, on the largest entry of the gradient
    """

    every: int = 1
    samples: int = 2000
    tolerance: float = 1e-4


class Learning(NamedTuple):
    """How a population learns.

    optimizers, schedule, project: of the arms with given rates; an automatic arm is its own
    batch: samples an update, drawn with replacement
    """

    objective: NetworkObjective
    arms: tuple[str, ...]
    rates: Rates
    batch: int
    optimizers: PartOptimizers
    schedule: Schedule
    project: Projection
    responder: Responder = Responder()

    @property
    def given(self) -> list[str]:
        """Return the arms whose rates are given, in their order."""
        return [arm for arm in self.arms if arm not in AUTOMATIC_ARMS]

    @property
    def automatic(self) -> list[str]:
        """Return the arms that set their own rates, in their order."""
        return [arm for arm in self.arms if arm in AUTOMATIC_ARMS]


class GivenState(NamedTuple):
    """Parameters of the arms with given rates, and what their optimisers keep."""

    parameters: Parameters
    optimizer_state: Parameters


class SupervisedState(NamedTuple):
    """The whole population: a `GivenState` and an `AutomaticState`, () where there are no arms."""

    given: Any
    automatic: Any


def initial_supervised_state(learning: Learning, networks: Parameters) -> SupervisedState:
    """Return the population before the first update; networks: one a seed."""
    given, automatic = len(learning.given), len(learning.automatic)
    parameters = _repeated(networks, given)
    return SupervisedState(
        GivenState(
            parameters,
            torch.vmap(partial(initial_optimizer_state, learning.optimizers))(parameters),
        )
        if given
        else (),
        automatic_state(
            _repeated(networks, automatic), _automatic_rule(learning, networks.head).first
        )
        if automatic
        else (),
    )


def _repeated(networks: Parameters, arms: int) -> Parameters:
    return tree_map(lambda leaf: leaf.repeat(arms, *([1] * (leaf.dim() - 1))), networks)


def given_rates(learning: Learning, head: Tensor) -> PerPart:
    """Return the base rates [run] of the arms with given rates; a head that answers has 0.

    head: [seed, feature, output] a head of every seed
    """
    body, fast = learning.rates.body, learning.rates.head
    pairs = {
        "split": (body, fast),
        "body-rate": (body, body),
        "head-rate": (fast, fast),
        "limit": (body, 0.0),
    }
    chosen = head.new_tensor([pairs[arm] for arm in learning.given]).reshape(-1, 2)
    return PerPart(*chosen.repeat_interleave(len(head), 0).unbind(1))


def _automatic_rule(learning: Learning, head: Tensor) -> AutomaticRule:
    seeds, arms, rates = len(head), learning.automatic, learning.rates
    momentum = [MOMENTUM if arm == "automatic-momentum" else 0.0 for arm in arms]
    sign = [arm == "automatic-sign" for arm in arms]
    first = PerPart(*(head.new_full((len(arms) * seeds,), rate) for rate in rates[:2]))
    return AutomaticRule(
        head.new_tensor(momentum).repeat_interleave(seeds),
        torch.tensor(sign, dtype=torch.bool, device=head.device).repeat_interleave(seeds),
        first,
        rates.low,
        rates.high,
        rates.kind,
    )


def batch_of(
    samples: Samples, key: Int[Tensor, " seed"], update: Int[Tensor, ""], batch: int, arms: int
) -> tuple[Tensor, Tensor]:
    """Draw the batch of every seed for one update, repeated over arms: [arm·seed, batch, …]."""
    size = torch.full_like(update, samples.size)
    index = draw(key, update, batch, size) + samples.first[:, None]
    index = index.repeat(arms, 1)
    return samples.inputs[index], samples.target[index]


def given_update(
    learning: Learning,
    state: GivenState,
    rates: PerPart,
    inputs: Float[Tensor, "run sample input"],
    target: Tensor,
    update: Int[Tensor, ""],
) -> GivenState:
    """Take one update of the arms with given rates: update (2) of arXiv 2605.15530.

    target: [run, sample]; update: its number, from 0
    Steps of RMSProp and Adam are those of `torch.optim` with its own defaults.
    """
    directions = gradients(learning.objective, state.parameters, inputs, target)
    factors = learning.schedule(update)
    body, head = rates.body * factors.body, rates.head * factors.head

    def one(
        parameters: Parameters, directions: Parameters, kept: Parameters, sizes: StepSizes
    ) -> tuple[Parameters, Parameters]:
        subtracted, kept = optimized(learning.optimizers, directions, kept, sizes)
        moved = tree_map(torch.sub, parameters, subtracted)
        return Parameters(learning.project(moved.body), learning.project(moved.head), {}), kept

    sizes = StepSizes(body, head, head)
    return GivenState(*torch.vmap(one)(state.parameters, directions, state.optimizer_state, sizes))


def supervised_updates(
    learning: Learning, samples: Samples, key: Tensor, state: SupervisedState, *, compiled: bool
) -> Callable[[SupervisedState, Tensor, int], tuple[SupervisedState, Tensor]]:
    """Return the function that takes a number of updates of the whole population.

    key:   [run], random keys of the batches
    state: a state with the shapes for which the program is compiled
    The function takes (state, number of the first update, how many) and returns the new state and
    the number of the next update.
    """
    given, automatic = len(learning.given), len(learning.automatic)
    runs = (state.given or state.automatic).parameters.head
    head = runs[: len(key)]
    rates, rule = given_rates(learning, head), _automatic_rule(learning, head)
    arrays = (samples.inputs, samples.target, samples.first, key, rates, rule[:3])

    def once(carried: Any, constant: Any) -> tuple[SupervisedState, Tensor]:
        (state, update), (inputs, target, first, key, rates, vectors) = carried, constant
        drawn = Samples(inputs, target, first, samples.size)
        x, y = batch_of(drawn, key, update, learning.batch, max(given, automatic))
        # Every arm's batch is the same: the fewer arms take the first of the repeated ones.
        ours, theirs = given * len(key), automatic * len(key)
        after: SupervisedState = state
        if given:
            moved = given_update(learning, state.given, rates, x[:ours], y[:ours], update)
            after = after._replace(given=moved)
        if automatic:
            momentum, sign, first = vectors
            chosen = rule._replace(momentum=momentum, sign=sign, first=first)
            chose = automatic_update(
                learning.objective, chosen, state.automatic, x[:theirs], y[:theirs], update
            )
            after = after._replace(automatic=chose)
        return after, update + 1

    zero = torch.zeros((), dtype=torch.int64, device=key.device)
    if key.device.type != "cpu" or not compiled:
        repeat = device_updates(once, (state, zero), arrays, compiled=compiled)
        return lambda state, update, count: repeat((state, update), count)
    program = compile_repeatable(once, (state, zero), arrays)
    return lambda state, update, count: program((state, update), arrays, count)


def arm_parameters(learning: Learning, state: SupervisedState, arm: str) -> Parameters:
    """Return the parameters of one arm, [seed, …] each."""
    members = learning.automatic if arm in AUTOMATIC_ARMS else learning.given
    parameters = (state.automatic if arm in AUTOMATIC_ARMS else state.given).parameters
    seeds = len(parameters.head) // len(members)
    start = members.index(arm) * seeds
    return tree_map(lambda leaf: leaf[start : start + seeds], parameters)


def arm_rates(learning: Learning, state: SupervisedState, arm: str, update: int) -> PerPart:
    """Return the effective rates [seed] of an arm's last update, of number `update`, in float64.

    An automatic arm's are those it chose; the rate of a head that answers is NaN.
    """
    if arm in AUTOMATIC_ARMS:
        start = learning.automatic.index(arm)
        return PerPart(
            *(rate.double().chunk(len(learning.automatic))[start] for rate in state.automatic.rates)
        )
    one = state.given.parameters.head[: len(state.given.parameters.head) // len(learning.given)]
    factors = learning.schedule(torch.tensor(max(update, 0)))
    body, head = given_rates(learning._replace(arms=(arm,)), one.double())
    answers = torch.full_like(head, torch.nan)
    return PerPart(body * factors.body, answers if arm == "limit" else head * factors.head)
