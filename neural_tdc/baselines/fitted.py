"""Regression on λ-returns that are recomputed with the present network: fitted value iteration.

λ = 1 on-policy is Monte Carlo regression. λ = 0 is fitted TD: the network of the last computation
is the target network, as in fitted Q-evaluation (Le et al. 2019), here for V.

Many networks learn at once, each with a λ and a part of the log of its own. They are fully
connected with tanh and learn by Adam; their products are batched over the networks.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neural_tdc.baselines.feature_blocks import Block
from neural_tdc.baselines.lambda_returns import (
    at_both_states,
    lambda_errors,
    td_errors,
)
from neural_tdc.byte_rows import as_numbers, evaluated_in_blocks
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
from neural_tdc.types import Parameters, Transition

_TANH = NetworkObjective(SQUARED, ACTIVATIONS["tanh"], 0.0)


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
    beside:      [time, 1] for every network's stream, the share of V(s) that other features have
    next_beside: likewise of V(s')
    """

    head: Tensor
    beside: list[Tensor]
    next_beside: list[Tensor]


class _Share(NamedTuple):
    """Networks that learn from one stream.

    members: of all networks
    single:  [time, …] the stream, with observations in float32
    used:    [member, time] the transitions that each may learn from
    rows:    [member, time] their numbers, followed by the others
    """

    members: slice
    transitions: Transition
    single: Transition
    used: Tensor
    rows: Tensor


def _share(members: slice, transitions: Transition, used: Tensor) -> _Share:
    single = transitions._replace(
        observation=transitions.observation.float(),
        next_observation=transitions.next_observation.float(),
    )
    rows = torch.argsort((~used).int(), dim=1, stable=True)
    return _Share(members, transitions, single, used, rows)


def fit_lambda_returns(
    transitions: Transition,
    used: Bool[Tensor, "network time"],
    decays: Sequence[float],
    plan: FittedPlan,
    seed: int,
    trace_limit: float = 1.0,
    on_progress: Callable[[int], None] | None = None,
) -> Parameters:
    """Fit one network per λ to the λ-returns of its own part of an ordered stream.

    transitions: observations are vectors with components of deviation about 1; rewards have a scale
        at which values are about 1 and have the mean 0, since the head has no bias
    used:        the transitions that each network may learn from; what it may not see also cuts
        its λ-returns
    decays:      [network] λ
    trace_limit: c̄, the largest ratio by which a λ-return carries on
    on_progress: is called with the number of updates done

    Raises ValueError for a network without a transition to learn from.
    """
    if int(used.sum(1).min()) < 1:
        raise ValueError("a network has no transition to learn from")
    shares = [_share(slice(0, len(decays)), transitions, used)]
    whole = generator(seed, "fitted")

    def draw(updates: int) -> Tensor:
        return torch.rand(updates, len(decays), plan.batch_size, generator=whole)

    return _fitted(shares, decays, plan, seed, draw, trace_limit, on_progress)


def fit_each_stream(
    streams: Sequence[Transition],
    decay: float,
    plan: FittedPlan,
    seed: int,
    on_progress: Callable[[int], None],
    respond: Callable[[Parameters], HeadResponse] | None = None,
) -> Parameters:
    """Fit one network for every stream, as `fit_lambda_returns` does: [stream, …] parameters.

    respond: sets the heads whenever the λ-returns are computed; they do not learn then
    """
    device = streams[0].reward.device
    everything = [
        torch.ones(1, len(stream.reward), dtype=torch.bool, device=device) for stream in streams
    ]
    shares = [
        _share(slice(i, i + 1), stream, used)
        for i, (stream, used) in enumerate(zip(streams, everything))
    ]
    # What network i draws depends on (seed, i) only.
    sources = [generator(seed, "fitted", network) for network in range(len(streams))]

    def draw(updates: int) -> Tensor:
        each = [torch.rand(updates, plan.batch_size, generator=source) for source in sources]
        return torch.stack(each, 1)

    decays = [decay] * len(streams)
    return _fitted(shares, decays, plan, seed, draw, 1.0, on_progress, respond)


def _fitted(
    shares: Sequence[_Share],
    decays: Sequence[float],
    plan: FittedPlan,
    seed: int,
    draw: Callable[[int], Float[Tensor, "update network batch"]],
    trace_limit: float,
    on_progress: Callable[[int], None] | None,
    respond: Callable[[Parameters], HeadResponse] | None = None,
) -> Parameters:
    """Fit networks to the λ-returns of their streams; draw: numbers in [0, 1) for many updates."""
    like = shares[0].transitions.reward.float()
    inputs = shares[0].transitions.observation.shape[1]
    networks = initial_networks([inputs, *plan.hidden, 1], seed, len(decays))
    body = tuple(Layer(*(leaf.to(like) for leaf in layer)) for layer in networks.body)
    networks = Parameters(body, networks.head.to(like), {})
    leaves = _leaves(networks)
    learned = leaves if respond is None else leaves[:-1]
    optimiser = torch.optim.Adam(learned, lr=plan.learning_rate, foreach=True)
    refits = max(1, min(plan.refits, plan.updates))
    count = torch.cat([share.used.sum(1) for share in shares])[:, None].to(like.device)
    for updates in torch.arange(plan.updates).tensor_split(refits):
        goals = _goals(shares, networks, decays, trace_limit, respond)
        picks = (draw(len(updates)).to(like.device) * count).long()
        drawn = [_drawn(share, goal, picks[:, share.members]) for share, goal in zip(shares, goals)]
        indices = zip(*(index for index, _ in drawn))
        targets = torch.cat([target for _, target in drawn], 1)
        for update, index, target in zip(updates.tolist(), indices, targets):
            seen = [
                as_numbers(share.single.observation[each]) for share, each in zip(shares, index)
            ]
            batch = seen[0] if len(seen) == 1 else torch.cat(seen)
            found = _leaves(gradients(_TANH, networks, batch, target))
            for leaf, gradient in zip(learned, found):
                leaf.grad = gradient
            optimiser.param_groups[0]["lr"] = plan.learning_rate * (1 - update / plan.updates)
            optimiser.step()
        if on_progress is not None:
            on_progress(int(updates[-1]) + 1)
    return networks


def _drawn(share: _Share, goal: Tensor, picks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the numbers [update, member, batch] of transitions, and their targets [… , 1]."""
    member = torch.arange(len(share.rows), device=picks.device)[:, None]
    index = share.rows[member, picks]
    return index, goal[index, member, None]


def _goals(
    shares: Sequence[_Share],
    networks: Parameters,
    decays: Sequence[float],
    trace_limit: float,
    respond: Callable[[Parameters], HeadResponse] | None,
) -> list[Float[Tensor, "time member"]]:
    """Return the λ-returns of every share's networks, in float32."""
    besides = [(torch.zeros(()), torch.zeros(()))] * len(shares)
    if respond is not None:
        head, *apart = respond(networks)
        networks.head.copy_(head)
        besides = [*zip(*apart)]
    goals = []
    for share, (beside, next_beside) in zip(shares, besides):
        members, transitions = share.members, share.transitions
        body = tuple(Layer(*(leaf[members] for leaf in layer)) for layer in networks.body)
        own = Parameters(body, networks.head[members], {})
        value, next_value = at_both_states(partial(network_values, own), share.single)
        td_error = td_errors(
            value.double() + beside, next_value.double() + next_beside, transitions
        )
        decay = torch.tensor(decays[members], dtype=torch.float64, device=value.device)
        errors = lambda_errors(td_error, transitions, decay, share.used.T, trace_limit)
        goals.append((value + errors).float())
    return goals


def _leaves(networks: Parameters) -> list[Tensor]:
    return [leaf for layer in networks.body for leaf in layer] + [networks.head]


def network_values(
    networks: Parameters, inputs: Float[Tensor, "time input"]
) -> Float[Tensor, "time network"]:
    """Return the values of all networks at the same inputs."""
    count = len(networks.head)

    def of_block(block: Tensor) -> Tensor:
        feature = features(networks.body, block.expand(count, -1, -1), _TANH.activation)
        return (feature @ networks.head)[..., 0].T

    return evaluated_in_blocks(of_block, inputs)


def network_block(networks: Parameters, index: int) -> tuple[Block, Float[Tensor, " feature"]]:
    """Return one network as a block of features, and its head in float64."""
    layers = tuple(Layer(*(leaf[index] for leaf in layer)) for layer in networks.body)
    return Block("tanh", layers), networks.head[index, :, 0].double()
