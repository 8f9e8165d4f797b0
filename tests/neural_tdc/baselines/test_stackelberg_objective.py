"""What the body of Stackelberg TD(λ) descends: an objective at λ = 1, none below."""

import pytest
import torch

from neural_tdc import Transition
from neural_tdc.baselines.feature_blocks import Block, block_features
from neural_tdc.baselines.lambda_returns import lambda_errors, td_errors
from neural_tdc.baselines.least_squares import least_squares_heads, least_squares_statistics
from neural_tdc.networks.mlp_population import Layer

INPUTS, HIDDEN, FEATURES = 2, 3, 2
SHAPES = ((INPUTS, HIDDEN), (HIDDEN,), (HIDDEN, FEATURES), (FEATURES,))


def episodes(lengths=(5, 8, 11, 14), discount=0.9):
    """Return episodes that terminate; rewards depend on the state and on chance."""
    source = torch.Generator().manual_seed(1)
    parts = []
    for length in lengths:
        state = torch.randn(length + 1, INPUTS, generator=source, dtype=torch.float64)
        factor = torch.full((length,), discount, dtype=torch.float64)
        factor[-1] = 0
        first = torch.zeros(length, dtype=torch.float64)
        first[0] = 1
        reward = state[:-1, 0] + torch.randn(length, generator=source, dtype=torch.float64)
        parts.append(
            Transition(state[:-1], reward, factor, state[1:], torch.ones_like(reward), first)
        )
    return Transition(*(torch.cat(leaves) for leaves in zip(*parts)))


def direction(weights, stream, decay):
    """Return −mean δ^λ_t θ*ᵀ∂φ(s_t) at the solved head, as a differentiable function of W."""
    pieces = torch.split(weights, [torch.Size(shape).numel() for shape in SHAPES])
    leaves = [piece.view(shape) for piece, shape in zip(pieces, SHAPES)]
    block = [Block("tanh", (Layer(*leaves[:2]), Layer(*leaves[2:])))]
    feature = block_features(block, stream.observation)
    following = block_features(block, stream.next_observation)
    statistics = least_squares_statistics(feature, following, stream, [decay])
    head = least_squares_heads(statistics, [0.0])[0, 0]
    error = lambda_errors(td_errors(feature @ head, following @ head, stream), stream, decay)
    cotangent = -error[:, None] * head / len(error)
    (found,) = torch.autograd.grad(feature, weights, cotangent, create_graph=True)
    return found


@pytest.mark.parametrize(("decay", "symmetric"), [(1.0, True), (0.5, False), (0.0, False)])
def test_the_body_descends_an_objective_at_lambda_one_and_none_below(decay, symmetric):
    stream = episodes()
    source = torch.Generator().manual_seed(2)
    number = sum(torch.Size(shape).numel() for shape in SHAPES)
    weights = torch.randn(number, generator=source, dtype=torch.float64, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(lambda w: direction(w, stream, decay), weights)
    # A direction is a gradient of something exactly where its Jacobian is symmetric.
    asymmetry = (jacobian - jacobian.T).abs().max() / jacobian.abs().max()
    assert (asymmetry < 1e-10) == symmetric
    assert symmetric or asymmetry > 1e-2


@pytest.mark.parametrize(("discount", "decay"), [(0.99, 0.9), (0.9, 0.5), (0.8, 0.0)])
def test_a_refit_to_lambda_returns_leaves_this_share_of_an_error_of_the_level(discount, decay):
    time = 3_000
    zeros = torch.zeros(time, dtype=torch.float64)
    stream = Transition(zeros[:, None], zeros, zeros + discount, zeros[:, None], zeros + 1)
    # The true value is 0; the present one is 5 everywhere.
    level = zeros + 5
    returns = level + lambda_errors(td_errors(level, level, stream), stream, decay)
    expected = discount * (1 - decay) / (1 - discount * decay)
    torch.testing.assert_close(returns[0], 5 * torch.tensor(expected, dtype=torch.float64))
    if (discount, decay) == (0.99, 0.9):
        assert expected == pytest.approx(0.908, abs=1e-3)
