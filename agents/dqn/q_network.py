"""Networks that estimate the value of every action: a body, and a linear head on its features."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from neural_tdc.networks.bodies import mlp, nature_atari, paper_atari
from neural_tdc.randomness import generator

# A picture smaller than this is too small for the first convolution of the Atari networks to see
# anything move.
ATARI_SIDE = 36
NETWORKS = ("mlp", "paper", "nature")


class QNetwork(nn.Module):
    """Values of all actions: a body's features times a linear head.

    scale:  what the input is multiplied by, 1/255 for pictures of bytes
    """

    def __init__(self, body: nn.Module, features: int, actions: int, scale: float = 1.0) -> None:
        super().__init__()
        self.body = body
        nn.Module.__setattr__(self, "head", nn.Linear(features, actions))
        self.scale = scale

    @property
    def head(self) -> nn.Linear:
        """Return the head.

        From Python 3.12 on a protocol is looked for in the class, where no layer of a module is.
        """
        head = self._modules["head"]
        assert isinstance(head, nn.Linear)
        return head

    def features(self, observation: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch feature"]:
        """Return the body's features φ of observations of bytes or of float32."""
        if observation.dim() == 4:
            # In the order of the convolutions' weights, once for both passes.
            observation = observation.contiguous(memory_format=torch.channels_last)
        # A byte times a number is a float32: one pass over the pictures, no copy between.
        return self.body(observation * self.scale)

    def forward(self, observation: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch action"]:
        """Return the value of every action at observations of bytes or of float32."""
        return self.head(self.features(observation))


def small_picture(observation_shape: tuple[int, ...], features: int = 128) -> nn.Module:
    """Build the paper's kind of body, one convolution and one fully connected layer, for MinAtar.

    Kernel 3, stride 1, 16 channels, as in Young and Tian 2019 (arXiv 1903.03176).
    """
    channels, height, width = observation_shape
    return nn.Sequential(
        nn.Conv2d(channels, 16, kernel_size=3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * (height - 2) * (width - 2), features),
        nn.ReLU(),
    )


def _paper(observation_shape: tuple[int, ...], features: int | None) -> tuple[nn.Module, int]:
    small = min(observation_shape[1:]) < ATARI_SIDE
    width = features or (128 if small else 256)
    return (small_picture if small else paper_atari)(observation_shape, width), width


def _body(
    name: str, observation_shape: tuple[int, ...], features: int | None, hidden: tuple[int, ...]
) -> tuple[nn.Module, int]:
    if name == "mlp":
        width = features or 128
        return mlp(observation_shape, width, hidden, activation="relu"), width
    if len(observation_shape) != 3:
        raise ValueError(
            f"the network {name} reads pictures; observations of shape {list(observation_shape)} "
            "need the network mlp"
        )
    if name == "nature":
        if min(observation_shape[1:]) < ATARI_SIDE:
            raise ValueError(
                f"the network nature reads pictures of at least {ATARI_SIDE} pixels per side, not "
                f"{list(observation_shape)}; the network paper fits itself to small ones"
            )
        width = features or 512
        return nature_atari(observation_shape, width), width
    return _paper(observation_shape, features)


def network_options(name: str) -> tuple[str, ...]:
    """Return the options of `make_network` that change a network of this name."""
    return ("features", "hidden") if name == "mlp" else ("features",)


def make_network(
    name: str,
    observation_shape: tuple[int, ...],
    actions: int,
    *,
    seed: int,
    scale: float = 1.0,
    features: int | None = None,
    hidden: tuple[int, ...] = (128,),
) -> QNetwork:
    """Make a network whose initial values depend on the seed alone, on the CPU.

    name:      mlp; paper: one convolution and two fully connected layers, head included; nature:
               three convolutions and two fully connected layers (Mnih et al. 2015)
    features:  units of the last hidden layer; 128 for mlp and small pictures, 256 for paper, 512
               for nature if not given
    hidden:    units of the layers of mlp before that one

    Raises ValueError for an unknown name and for a network that cannot read the observations.
    """
    if name not in NETWORKS:
        raise ValueError(f"network {name!r} is not one of {', '.join(NETWORKS)}")
    with torch.random.fork_rng(devices=[]):
        # `torch.manual_seed` would also set the generators of devices, which are not put back.
        torch.default_generator.manual_seed(generator(seed, "network").initial_seed())
        body, width = _body(name, observation_shape, features, hidden)
        network = QNetwork(body, width, actions, scale)
    # The gradient of a first convolution with few channels takes half the time in this order.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def matrix_operations(network: nn.Module, observation: Tensor) -> int:
    """Return the number of multiplications and additions of a forward pass with `observation`."""
    total = 0

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        weight: Tensor = layer.weight  # type: ignore[assignment]
        total += 2 * output.numel() * weight[0].numel()

    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks: list[Callable[[], None]] = [
        layer.register_forward_hook(count).remove for layer in layers
    ]
    try:
        with torch.no_grad():
            network(observation)
    finally:
        for remove in hooks:
            remove()
    return total
