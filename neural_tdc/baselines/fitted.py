"""Regression on λ-returns that are recomputed with the present network: fitted value iteration.

λ = 1 on-policy is Monte Carlo regression. λ = 0 is fitted TD: the network of the last computation
is the target network, as in fitted Q-evaluation (Le et al. 2019), here for V.

Many networks learn at once, each with a λ and a part of the log of its own. They are fully
connected with tanh and learn by Adam; their products are batched over the networks.
"""

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neural_tdc.baselines.feature_blocks import Block
from neural_tdc.baselines.lambda_returns import at_both_states, lambda_errors, td_errors
from neural_tdc.baselines.log_preparation import joined
from neural_tdc.networks.activations import ACTIVATIONS
from neural_tdc.networks.mlp_population import (
    SQUARED,
    Layer,
    NetworkObjective,
    features,
    gradients,
    initial_networks,
)
from neural_tdc.randomness import generator
from neural_tdc.types import Parameters, Transition, mapped

_TANH = NetworkObjective(SQUARED, ACTIVATIONS["tanh"], 0.0)
# Rows that go through all networks at a time when λ-returns are computed.
_ROWS = 4096


class FittedPlan(NamedTuple):
    """How networks are fitted to λ-returns.

    hidden:         units of the layers; the last layer's are the features
    updates:        of Adam
    batch_size:     transitions an update
    learning_rate:  Adam's first step size, which falls linearly to 0
    refits:         how often the λ-returns are computed, at most once an update
    """

    hidden: tuple[int, ...] = (64, 64)
    updates: int = 8_000
    batch_size: int = 128
    learning_rate: float = 1e-3
    refits: int = 40


class HeadResponse(NamedTuple):
    """Heads that are set, not learned, and the value of what is next to the networks' features.

    head:        [network, feature, 1]
    beside:      [time, network] the share of V(s) that other features have
    next_beside: [time, network] likewise of V(s')
    """

    head: Tensor
    beside: Tensor
    next_beside: Tensor


def fit_lambda_returns(
    transitions: Transition,
    used: Bool[Tensor, "network time"],
    decays: Sequence[float],
    plan: FittedPlan,
    seed: int,
    trace_limit: float = 1.0,
    on_progress: Callable[[int], None] | None = None,
    *,
    lengths: Sequence[int] | None = None,
    respond: Callable[[Parameters], HeadResponse] | None = None,
) -> Parameters:
    """Fit one network per λ to the λ-returns of its own part of an ordered stream.

    transitions: observations are vectors with components of deviation about 1; rewards have a scale
        at which values are about 1 and have the mean 0, since the head has no bias
    used:        the transitions that each network may learn from; what it may not see also cuts
        its λ-returns
    decays:      [network] λ
    trace_limit: c̄, the largest ratio by which a λ-return carries on
    on_progress: hears the number of updates done
    lengths:     of the streams that follow one another in `transitions`, one for each network; if
        not given there is one stream, which all networks share
    respond:     sets the heads whenever the λ-returns are computed; they do not learn then

    Raises ValueError for a network without a transition to learn from.
    """
    inputs = transitions.observation.float()
    single = transitions._replace(
        observation=inputs, next_observation=transitions.next_observation.float()
    )
    count = used.sum(1, keepdim=True)
    if int(count.min()) < 1:
        raise ValueError("a network has no transition to learn from")
    # The numbers of the transitions that a network may use, followed by the others.
    rows = torch.argsort((~used).int(), dim=1, stable=True)
    networks = initial_networks([inputs.shape[1], *plan.hidden, 1], seed, len(decays))
    body = tuple(Layer(*(leaf.to(inputs) for leaf in layer)) for layer in networks.body)
    networks = Parameters(body, networks.head.to(inputs), {})
    leaves = _leaves(networks)
    learned = leaves if respond is None else leaves[:-1]
    optimiser = torch.optim.Adam(learned, lr=plan.learning_rate, foreach=True)
    decay = torch.tensor(decays, dtype=torch.float64, device=inputs.device)
    refits = max(1, min(plan.refits, plan.updates))
    draw = _batches(seed, len(decays), plan.batch_size, shared=lengths is None)
    for updates in torch.arange(plan.updates).tensor_split(refits):
        value, next_value = _both_values(networks, single, lengths)
        beside = next_beside = torch.zeros(())
        if respond is not None:
            head, beside, next_beside = respond(networks)
            networks.head.copy_(head)
            value, next_value = _both_values(networks, single, lengths)
        td_error = td_errors(
            value.double() + beside, next_value.double() + next_beside, transitions
        )
        errors = lambda_errors(td_error, transitions, decay, used.T, trace_limit)
        goal = (value + errors).float()
        picks = (draw(len(updates)).to(inputs.device) * count).long()
        for update, pick in zip(updates.tolist(), picks):
            index = rows.gather(1, pick)
            target = goal.gather(0, index.T).T[..., None]
            found = _leaves(gradients(_TANH, networks, inputs[index], target))
            for leaf, gradient in zip(learned, found):
                leaf.grad = gradient
            optimiser.param_groups[0]["lr"] = plan.learning_rate * (1 - update / plan.updates)
            optimiser.step()
        if on_progress is not None:
            on_progress(int(updates[-1]) + 1)
    return networks


def _batches(
    seed: int, networks: int, batch_size: int, *, shared: bool
) -> Callable[[int], Float[Tensor, "update network batch"]]:
    """Return the function that draws numbers in [0, 1) for so many updates of all networks.

    shared: whether one source draws for all networks, or network i depends on (seed, i) only
    """
    if shared:
        whole = generator(seed, "fitted")
        return lambda updates: torch.rand(updates, networks, batch_size, generator=whole)
    sources = [generator(seed, "fitted", network) for network in range(networks)]
    return lambda updates: torch.stack(
        [torch.rand(updates, batch_size, generator=source) for source in sources], 1
    )


def _both_values(
    networks: Parameters, transitions: Transition, lengths: Sequence[int] | None
) -> tuple[Float[Tensor, "time network"], Float[Tensor, "time network"]]:
    """Return the values of all networks at s and at s'; 0 at the streams of other networks."""
    if lengths is None:
        return at_both_states(partial(network_values, networks), transitions)
    value = transitions.observation.new_zeros(len(transitions.reward), len(lengths))
    next_value, start = value.clone(), 0
    for index, length in enumerate(lengths):
        span = slice(start, start + length)
        start += length
        body = tuple(Layer(*(leaf[index, None] for leaf in layer)) for layer in networks.body)
        one = Parameters(body, networks.head[index, None], {})
        own = mapped(transitions, itemgetter(span))
        found = at_both_states(partial(network_values, one), own)
        value[span, index], next_value[span, index] = (each[:, 0] for each in found)
    return value, next_value


def _leaves(networks: Parameters) -> list[Tensor]:
    return [leaf for layer in networks.body for leaf in layer] + [networks.head]


def network_values(
    networks: Parameters, inputs: Float[Tensor, "time input"]
) -> Float[Tensor, "time network"]:
    """Return the values of all networks at the same inputs."""
    count, parts = len(networks.head), []
    for block in inputs.split(_ROWS):
        feature = features(networks.body, block.expand(count, -1, -1), _TANH.activation)
        parts.append((feature @ networks.head)[..., 0].T)
    return torch.cat(parts)


def network_block(networks: Parameters, index: int) -> tuple[Block, Float[Tensor, " feature"]]:
    """Return one network as a block of features, and its head in float64."""
    layers = tuple(Layer(*(leaf[index] for leaf in layer)) for layer in networks.body)
    return Block("tanh", layers), networks.head[index, :, 0].double()


def fit_each_stream(
    streams: Sequence[Transition],
    decay: float,
    plan: FittedPlan,
    seed: int,
    on_progress: Callable[[int], None],
    respond: Callable[[Parameters], HeadResponse] | None = None,
) -> Parameters:
    """Fit one network for every stream, as `fit_lambda_returns` does: [stream, …] parameters."""
    lengths = [len(stream.reward) for stream in streams]
    stream = torch.arange(len(streams))
    owner = stream.repeat_interleave(torch.tensor(lengths))
    return fit_lambda_returns(
        joined(streams),
        owner == stream[:, None],
        [decay] * len(streams),
        plan,
        seed,
        on_progress=on_progress,
        lengths=lengths,
        respond=respond,
    )
