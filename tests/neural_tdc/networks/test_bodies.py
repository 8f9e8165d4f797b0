"""The bodies at hand, their initial values, and a module as a pure function."""

import pytest
import torch
from torch import nn

from neural_tdc.networks.activations import ACTIVATIONS
from neural_tdc.networks.bodies import initial_bodies, mlp, nature_atari, paper_atari
from neural_tdc.networks.feature_map import feature_map, given_features

F64 = torch.float64


def shapes(module):
    return [tuple(parameter.shape) for parameter in module.parameters()]


def detached(module):
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


# --- the bodies at hand


def test_a_fully_connected_body_has_these_layers():
    module = mlp((3,), features=4, hidden=(6, 5))
    assert shapes(module) == [(6, 3), (6,), (5, 6), (5,), (4, 5), (4,)]
    assert [type(layer) for layer in module] == [nn.Linear, nn.Tanh] * 3


def test_an_observation_of_several_axes_is_flattened():
    module = mlp((2, 5), features=4, hidden=())
    assert shapes(module) == [(4, 10), (4,)]
    assert module(torch.zeros(7, 2, 5)).shape == (7, 4)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_last_layer_has_the_activation_too(activation):
    module = mlp((3,), features=4, hidden=(), activation=activation)
    observation = 3 * torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    linear = observation @ module[0].weight.T + module[0].bias
    expected = {
        "tanh": linear.tanh(),
        "relu": linear.clamp(min=0),
        "softplus": (1 + linear.exp()).log(),
        "silu": linear / (1 + (-linear).exp()),
        "gelu": linear * (1 + torch.erf(linear / 2**0.5)) / 2,
        "sigmoid": 1 / (1 + (-linear).exp()),
    }[activation]
    assert torch.allclose(module(observation), expected, atol=1e-5)


def test_a_constant_feature_is_one_of_the_features_and_is_not_learned():
    module = mlp((3,), features=4, hidden=(6,), constant=True)
    assert shapes(module) == [(6, 3), (6,), (3, 6), (3,)]
    features = module(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    assert features.shape == (5, 4)
    assert features[:, 3].tolist() == [1.0] * 5
    assert bool((features[:, :3].abs() < 1).all())


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"activation": "tahn"}, "'tahn' is not one of tanh, relu"),
        ({"features": 0}, "[32, 0]"),
        ({"features": 1, "constant": True}, "[32, 0]"),
        ({"hidden": (4, 0)}, "[4, 0, 16]"),
    ],
)
def test_a_body_that_cannot_be_is_refused_in_one_line(settings, named):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refusal:
        mlp((3,), **settings)
    assert named in str(refusal.value)


def test_the_papers_atari_body_is_one_convolution_and_one_fully_connected_layer():
    module = paper_atari((4, 84, 84))
    # (84 − 8)/4 + 1 = 20, and 16·20·20 = 6400.
    assert shapes(module) == [(16, 4, 8, 8), (16,), (256, 6400), (256,)]
    assert module(torch.zeros(2, 4, 84, 84)).shape == (2, 256)


def test_the_nature_body_has_the_published_layers():
    module = nature_atari((4, 84, 84))
    # 84 → 20 → 9 → 7, and 64·7·7 = 3136.
    assert shapes(module) == [
        (32, 4, 8, 8),
        (32,),
        (64, 32, 4, 4),
        (64,),
        (64, 64, 3, 3),
        (64,),
        (512, 3136),
        (512,),
    ]
    assert [layer.stride for layer in module if isinstance(layer, nn.Conv2d)] == [
        (4, 4),
        (2, 2),
        (1, 1),
    ]
    features = module(torch.rand(2, 4, 84, 84, generator=torch.Generator().manual_seed(0)))
    assert features.shape == (2, 512)
    assert bool((features >= 0).all())


def test_a_layer_norm_stands_before_every_activation():
    module = mlp((3,), features=4, hidden=(6,), layer_norm=True)
    kinds = [nn.Linear, nn.LayerNorm, nn.Tanh]
    assert [type(layer) for layer in module] == kinds * 2
    observation = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    hidden = observation @ module[0].weight.T + module[0].bias
    centred = hidden - hidden.mean(1, keepdim=True)
    normal = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(module[:3](observation), normal.tanh(), atol=1e-6)


def test_a_body_with_layer_norm_draws_the_weights_of_one_without():
    torch.manual_seed(0)
    plain = mlp((3,), features=4, hidden=(6,))
    torch.manual_seed(0)
    normalised = mlp((3,), features=4, hidden=(6,), layer_norm=True)
    assert torch.equal(plain[2].weight, normalised[3].weight)


# --- a module as a pure function


def test_a_feature_map_depends_on_its_arguments_alone():
    module = mlp((3,), features=4, hidden=(6,)).double()
    features = feature_map(module)
    observation = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    body = detached(module)
    other = {name: 2 * tensor for name, tensor in body.items()}
    hidden = (observation @ other["0.weight"].T + other["0.bias"]).tanh()
    expected = (hidden @ other["2.weight"].T + other["2.bias"]).tanh()
    assert torch.allclose(features(other, observation), expected, atol=1e-14)
    assert torch.equal(features(body, observation), module(observation))


def test_a_feature_map_passes_over_what_a_rule_keeps_beside_the_body():
    module = mlp((3,), features=4, hidden=())
    observation = torch.ones(2, 3)
    body = {**detached(module), "slow_head": torch.ones(9)}
    assert torch.equal(feature_map(module)(body, observation), module(observation))


def test_buffers_follow_the_dtype_of_the_parameters():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    module[1].running_mean += 0.5
    features = feature_map(module)
    body = {name: tensor.double() for name, tensor in detached(module).items()}
    observation = torch.ones(2, 3, dtype=F64)
    expected = (observation @ body["0.weight"].T + body["0.bias"] - 0.5) / (1 + 1e-5) ** 0.5
    assert torch.allclose(features(body, observation), expected, atol=1e-12)


def test_a_feature_map_is_the_module_in_eval_mode():
    features = feature_map(module := nn.Sequential(nn.Linear(3, 40), nn.Dropout(0.5)).train())
    observation = torch.ones(1, 3)
    assert torch.equal(features(detached(module), observation), module[0](observation))


def test_given_features_are_the_observations_themselves():
    observation = torch.ones(3, 2)
    assert given_features({}, observation) is observation


# --- initial values


def test_every_run_starts_from_its_own_parameters_and_knows_nothing_of_the_others():
    _, many = initial_bodies(lambda shape: mlp(shape, 4, (6,)), (3,), seed=5, runs=4)
    _, few = initial_bodies(lambda shape: mlp(shape, 4, (6,)), (3,), seed=5, runs=2)
    _, other = initial_bodies(lambda shape: mlp(shape, 4, (6,)), (3,), seed=6, runs=2)
    for name, tensor in many.items():
        assert torch.equal(tensor[:2], few[name])
        assert not torch.equal(tensor[0], tensor[1])
        assert not torch.equal(few[name], other[name])
    assert many["0.weight"].shape == (4, 6, 3)
    assert not any(tensor.requires_grad for tensor in many.values())


class RandomProjection(nn.Module):
    """Learn on top of a layer that is drawn once and kept in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("projection", torch.randn(3, 5))
        self.linear = nn.Linear(5, 4)

    def forward(self, observation):
        return self.linear((observation @ self.projection).tanh())


def test_a_buffer_that_is_drawn_at_random_does_not_depend_on_the_number_of_runs():
    (one, _), (three, _) = (
        initial_bodies(lambda _: RandomProjection(), (3,), seed=1, runs=runs) for runs in (1, 3)
    )
    assert torch.equal(one.projection, three.projection)


def test_making_bodies_leaves_the_global_generator_as_it_was():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    _, first = initial_bodies(lambda shape: mlp(shape), (3,), seed=0, runs=2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    _, second = initial_bodies(lambda shape: mlp(shape), (3,), seed=0, runs=2)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_body_without_parameters_is_refused():
    with pytest.raises(ValueError, match="Tanh has no parameters to learn"):
        initial_bodies(lambda shape: nn.Tanh(), (3,), seed=0, runs=2)
