import pytest
import torch

from neural_tdc.baselines.feature_blocks import (
    block_features,
    feature_blocks,
    module_parameters,
    on_raw_inputs,
)
from neural_tdc.baselines.random_features import random_fourier, random_tanh
from neural_tdc.randomness import generator

BLOCKS = [
    random_tanh(3, 5, 2.0, generator(0, "tanh")),
    random_fourier(3, 4, 1.0, generator(0, "cosine")),
]


def observations(rows=6):
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_features_are_the_blocks_in_a_row_and_a_constant():
    at = observations()
    features = block_features(BLOCKS, at)
    (tanh,), (cosine,) = BLOCKS[0].layers, BLOCKS[1].layers
    expected = [
        torch.tanh(at @ tanh.weight + tanh.bias),
        torch.cos(at @ cosine.weight + cosine.bias),
    ]
    torch.testing.assert_close(features[:, :9], torch.cat(expected, 1))
    assert features[:, 9].tolist() == [1.0] * 6


def test_blocks_on_raw_inputs_do_what_they_do_on_standardised_ones():
    shift, scale = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([2.0, 0.1, 30.0])
    raw = observations() * scale + shift
    found = block_features(on_raw_inputs(BLOCKS, shift.double(), scale.double()), raw)
    torch.testing.assert_close(found, block_features(BLOCKS, observations()), rtol=1e-6, atol=1e-6)


def test_the_module_of_blocks_computes_the_same_features():
    settings, parameters = module_parameters(BLOCKS)
    assert settings == [["tanh", 5], ["cosine", 4]]
    module = feature_blocks((3,), settings).double()
    module.load_state_dict(parameters)
    torch.testing.assert_close(module(observations()), block_features(BLOCKS, observations()))


def test_random_features_of_one_seed_are_the_same_and_of_another_are_not():
    first, again = (random_tanh(3, 5, 2.0, generator(0, "tanh")).layers[0] for _ in range(2))
    assert torch.equal(first.weight, again.weight)
    other = random_tanh(3, 5, 2.0, generator(1, "tanh")).layers[0]
    assert not torch.equal(first.weight, other.weight)


@pytest.mark.parametrize("block", [["relu", 3], ["tanh"], ["tanh", 3, 0]])
def test_a_wrong_block_is_refused(block):
    with pytest.raises(ValueError, match="a block is tanh or cosine"):
        feature_blocks((3,), [block])
