"""The bodies at hand, fully connected and convolutional, and the initial values of any body.

A body is any module that is, in eval mode, a pure function of its parameters: observation in,
feature vector out.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_tdc.networks.activations import ACTIVATIONS
from neural_tdc.networks.validation import check_layers
from neural_tdc.randomness import generator
from neural_tdc.types import Body, MakeBody


class Constant(nn.Module):
    """Append a constant feature 1, the bias of a linear head that has none."""

    def forward(self, features: Float[Tensor, "batch feature"]) -> Tensor:
        """Return [batch, feature + 1]."""
        return torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)


def mlp(
    observation_shape: Sequence[int],
    features: int = 16,
    hidden: Sequence[int] = (32,),
    activation: str = "tanh",
    constant: bool = False,
    layer_norm: bool = False,
) -> nn.Module:
    """Build a fully connected body with the activation after every layer, the last included.

    hidden, features: units of the layers; activation: a name of `ACTIVATIONS`
    constant:   one of the features is the constant 1
    layer_norm: normalise what enters every activation, over the layer's units (Ba et al. 2016)
    Raises ValueError for another activation and a layer without units.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation {activation!r} is not one of {', '.join(ACTIVATIONS)}")
    learned = features - constant
    if learned < 1 or any(size < 1 for size in hidden):
        raise ValueError(f"a body needs at least one unit per layer, not {[*hidden, learned]}")
    sizes = [math.prod(observation_shape), *hidden, learned]
    layers: list[nn.Module] = [nn.Flatten()] if len(observation_shape) != 1 else []
    for fan_in, fan_out in pairwise(sizes):
        layers.append(nn.Linear(fan_in, fan_out))
        if layer_norm:
            layers.append(nn.LayerNorm(fan_out))
        layers.append(ACTIVATIONS[activation].module())
    return nn.Sequential(*layers, *([Constant()] if constant else []))


def _atari_body(
    observation_shape: Sequence[int], convolutions: list[nn.Module], width: int
) -> nn.Module:
    trunk = nn.Sequential(*convolutions, nn.Flatten())
    with torch.no_grad():
        flat = trunk(torch.zeros(1, *observation_shape)).shape[1]
    return nn.Sequential(*trunk, nn.Linear(flat, width), nn.ReLU())


def paper_atari(observation_shape: Sequence[int], features: int = 256) -> nn.Module:
    """Build the paper's Atari body: one convolution and one fully connected layer, ReLU.

    The head is the second fully connected layer. Kernel, stride, channels and width are a
    reconstruction (the paper names the layers only): the first layer of DQN's network of 2013.
    """
    return _atari_body(
        observation_shape,
        [nn.Conv2d(observation_shape[0], 16, kernel_size=8, stride=4), nn.ReLU()],
        features,
    )


def nature_atari(observation_shape: Sequence[int], features: int = 512) -> nn.Module:
    """Build the body of "Human-level control through deep reinforcement learning" (Mnih 2015)."""
    channels = observation_shape[0]
    return _atari_body(
        observation_shape,
        [
            nn.Conv2d(channels, 32, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, kernel_size=3, stride=1),
            nn.ReLU(),
        ],
        features,
    )


BODIES: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "paper_atari": paper_atari,
    "nature_atari": nature_atari,
}


def initial_bodies(
    make_body: MakeBody, observation_shape: tuple[int, ...], seed: int, runs: int
) -> tuple[nn.Module, Body]:
    """Make one body a run: a module, and all parameters with a leading run axis (on the CPU).

    Run i depends on (seed, i) only; buffers, such as a layer drawn once and not learned, are those
    of the first run for all. PyTorch's modules draw their initial values from the global
    generator, so it is set for each run and put back afterwards.

    Raises ValueError for a body without parameters, or with a layer that is not supported.
    """
    module, bodies = None, []
    with torch.random.fork_rng(devices=[]):
        for run in range(runs):
            # `torch.manual_seed` would also set the generators of devices, which are not put back.
            torch.default_generator.manual_seed(generator(seed, "body", run).initial_seed())
            made = make_body(observation_shape)
            if module is None:
                module = made
                check_layers(module)
            # Thousands of modules would take longer to be kept than to be made.
            bodies.append({name: p.detach() for name, p in made.named_parameters()})
    assert module is not None
    if not bodies[0]:
        raise ValueError(f"body: {type(module).__name__} has no parameters to learn")
    stacked = {name: torch.stack([body[name] for body in bodies]) for name in bodies[0]}
    return module, stacked
