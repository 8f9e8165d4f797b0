"""Networks of one architecture as one: every parameter has the runs as its leading axis.

A fully connected layer of all runs is one batched matrix product. A convolution is one too, on the
patches that its kernel sees.
"""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from agents.dqn.batched_linear import batched_linear
from agents.dqn.objectives import LinearHead
from agents.dqn.q_network import QNetwork


class StackedNetwork:
    """The values of all actions by several networks, each at observations of its own.

    networks:  of one architecture; their parameters are copied

    Raises ValueError for a layer that is not fully connected, a convolution without padding, a
    ReLU or a Flatten.
    """

    def __init__(self, networks: Sequence[QNetwork]) -> None:
        first = networks[0]
        body = first.body
        layers = list(body) if isinstance(body, nn.Sequential) else [body]
        for layer in layers:
            if not _is_known(layer):
                raise ValueError(f"a population of networks with a layer {layer} is not supported")
        self.layers, self.scale = layers, first.scale
        named = [dict(network.named_parameters()) for network in networks]
        self.parameters = {
            name: torch.stack([each[name].detach().contiguous() for each in named])
            for name in named[0]
        }

    @property
    def head(self) -> LinearHead:
        """Return the heads."""
        return LinearHead(self.parameters["head.weight"], self.parameters["head.bias"])

    def features(
        self, observation: Shaped[Tensor, "run batch ..."]
    ) -> Float[Tensor, "run batch feature"]:
        """Return the features of every run at its own observations."""
        x = observation * self.scale
        for index, layer in enumerate(self.layers):
            if isinstance(layer, nn.ReLU):
                x = torch.relu_(x)
                continue
            if isinstance(layer, nn.Flatten):
                x = x.flatten(2)
                continue
            weight, bias = (self.parameters[f"body.{index}.{part}"] for part in ("weight", "bias"))
            if isinstance(layer, nn.Conv2d):
                x = _convolution(x, weight, bias, layer)
            else:
                x = batched_linear(x, weight, bias)
        return x

    def __call__(
        self, observation: Shaped[Tensor, "run batch ..."]
    ) -> Float[Tensor, "run batch action"]:
        """Return the value of every action."""
        return self.head(self.features(observation))

    @torch.no_grad()
    def greedy(self, observation: Shaped[Tensor, "run batch ..."]) -> Int[Tensor, "run batch"]:
        """Return the best action of every run at its own observations."""
        return self(observation).argmax(-1)

    def of_runs(self, which: Int[Tensor, " some"]) -> "StackedNetwork":
        """Return copies of some of the networks."""
        found = copy.copy(self)
        found.parameters = {
            name: leaf.detach().index_select(0, which) for name, leaf in self.parameters.items()
        }
        return found

    def of_run(self, run: int) -> dict[str, Tensor]:
        """Return the parameters of one run by name, as a `QNetwork` loads them."""
        return {name: leaf[run].detach().clone() for name, leaf in self.parameters.items()}


def _is_known(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        plain = layer.groups == 1 and layer.padding == (0, 0) and layer.dilation == (1, 1)
        return plain and layer.bias is not None
    if isinstance(layer, nn.Linear):
        return layer.bias is not None
    return isinstance(layer, nn.ReLU | nn.Flatten)


def _convolution(x: Tensor, weight: Tensor, bias: Tensor, layer: nn.Conv2d) -> Tensor:
    """Convolve [run, batch, channel, height, width] with the kernels of each run."""
    (high, wide), (down, right) = layer.kernel_size, layer.stride
    # A view of all patches: [run, batch, channel, row, column, *kernel]
    patches = x.unfold(3, high, int(down)).unfold(4, wide, int(right))
    runs, batch, _, rows, columns = patches.shape[:5]
    # The places last, so that the copy goes along rows of the picture.
    places = patches.permute(0, 2, 5, 6, 1, 3, 4).reshape(runs, -1, batch * rows * columns)
    found = torch.baddbmm(bias[:, :, None], weight.flatten(2), places)
    return found.view(runs, -1, batch, rows, columns).transpose(1, 2)
