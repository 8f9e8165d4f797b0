import pytest
import torch

from neural_tdc import Transition
from neural_tdc.baselines.feature_blocks import Block, block_features
from neural_tdc.baselines.fitted import (
    FittedPlan,
    fit_lambda_returns,
    network_block,
    network_values,
)
from neural_tdc.baselines.lambda_returns import (
    at_both_states,
    discounted_returns,
    lambda_errors,
    td_errors,
)
from neural_tdc.baselines.least_squares import least_squares_heads, least_squares_statistics
from neural_tdc.networks.activations import ACTIVATIONS
from neural_tdc.networks.mlp_population import (
    SQUARED,
    Layer,
    NetworkObjective,
    gradients,
)
from neural_tdc.types import Parameters


def episodes(count=6, inputs=2, seed=2):
    """Return episodes that all terminate, of different lengths; rewards depend on the state."""
    source = torch.Generator().manual_seed(seed)
    parts = []
    for index in range(count):
        length = 3 + 2 * index
        state = torch.randn(length + 1, inputs, generator=source, dtype=torch.float64)
        discount = torch.full((length,), 0.9, dtype=torch.float64)
        discount[-1] = 0
        first = torch.zeros(length, dtype=torch.float64)
        first[0] = 1
        reward = state[:-1, 0] + 0.1 * torch.randn(length, generator=source, dtype=torch.float64)
        ones = torch.ones(length, dtype=torch.float64)
        parts.append(Transition(state[:-1], reward, discount, state[1:], ones, first))
    return Transition(*(torch.cat(leaves) for leaves in zip(*parts)))


def test_the_bodys_direction_at_the_solved_head_is_the_gradient_of_the_reduced_objective():
    stream = episodes()
    source = torch.Generator().manual_seed(0)
    layers = [
        Layer(
            torch.randn(a, b, generator=source, dtype=torch.float64),
            torch.randn(b, generator=source, dtype=torch.float64),
        )
        for a, b in ((2, 5), (5, 3))
    ]
    leaves = [leaf.clone().requires_grad_() for layer in layers for leaf in layer]
    returns = discounted_returns(stream)
    assert returns.complete.all()

    def features(leaves):
        return block_features(
            [Block("tanh", (Layer(*leaves[:2]), Layer(*leaves[2:])))], stream.observation
        )

    x = features(leaves)
    solved = torch.linalg.solve(x.T @ x, x.T @ returns.value)
    reduced = 0.5 * (returns.value - x @ solved).square().mean()
    expected = torch.autograd.grad(reduced, leaves)

    # LSTD(1) solves the same regression, and δ^λ at λ = 1 is the return's error.
    body = [Block("tanh", tuple(layers))]
    feature, following = at_both_states(lambda rows: block_features(body, rows), stream)
    statistics = least_squares_statistics(feature, following, stream, [1.0])
    head = least_squares_heads(statistics, [0.0])[0, 0]
    torch.testing.assert_close(head, solved.detach(), rtol=1e-9, atol=1e-9)
    value, next_value = feature @ head, following @ head
    error = lambda_errors(td_errors(value, next_value, stream), stream, 1.0)
    torch.testing.assert_close(value + error, returns.value, rtol=1e-10, atol=1e-10)
    # The constant's share of the value moves to the target, since the network has no bias.
    objective = NetworkObjective(SQUARED, ACTIVATIONS["tanh"], 0.0)
    target = (value + error - head[-1])[:, None]
    parameters = Parameters(tuple(layers), head[:-1, None], {})
    found = gradients(objective, parameters, stream.observation, target).body
    for direction, gradient in zip([leaf for layer in found for leaf in layer], expected):
        torch.testing.assert_close(direction, gradient, rtol=1e-9, atol=1e-9)
        assert gradient.abs().max() > 1e-3


def test_networks_fit_the_returns_of_their_own_part():
    stream = episodes(count=20)
    used = torch.ones(2, len(stream.reward), dtype=torch.bool)
    half = len(stream.reward) // 2
    used[1, half:] = False
    heard = []
    plan = FittedPlan(hidden=(16, 8), updates=600, batch_size=32, learning_rate=1e-2, refits=3)
    networks = fit_lambda_returns(stream, used, [1.0, 1.0], plan, seed=0, on_progress=heard.append)
    value = network_values(networks, stream.observation.float()).double()
    returns = discounted_returns(stream).value
    error = (value - returns[:, None]).square()
    # The first reward, of variance 1, is all that the state tells of the return.
    assert error[:, 0].mean() < returns.var() - 0.6
    assert error[:half, 1].mean() < returns[:half].var() - 0.6
    assert heard == [200, 400, 600]


def test_what_a_network_may_not_see_changes_nothing():
    stream = episodes(count=8)
    used = torch.ones(1, len(stream.reward), dtype=torch.bool)
    used[0, 20:] = False
    plan = FittedPlan(hidden=(4, 3), updates=20, batch_size=8, refits=4)
    other = stream._replace(reward=torch.where(used[0], stream.reward, 1e6))
    found, again = (fit_lambda_returns(each, used, [0.9], plan, seed=1) for each in (stream, other))
    assert torch.equal(found.head, again.head)


def test_a_network_as_a_block_has_its_values():
    stream = episodes()
    used = torch.ones(3, len(stream.reward), dtype=torch.bool)
    plan = FittedPlan(hidden=(7, 5), updates=5, batch_size=4, refits=1)
    networks = fit_lambda_returns(stream, used, [0.0, 0.5, 1.0], plan, seed=1)
    block, head = network_block(networks, 2)
    values = block_features([block], stream.observation)[:, :-1] @ head
    expected = network_values(networks, stream.observation.float())[:, 2].double()
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-5)


def test_a_network_without_transitions_is_refused():
    stream = episodes()
    used = torch.zeros(1, len(stream.reward), dtype=torch.bool)
    with pytest.raises(ValueError, match="no transition to learn from"):
        fit_lambda_returns(stream, used, [1.0], FittedPlan(updates=1), seed=0)
