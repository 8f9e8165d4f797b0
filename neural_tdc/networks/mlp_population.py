"""Fully connected networks, many at once: outputs, losses and their gradients in closed form.

A network is a body of layers σ(XW + b) and a linear head without a bias, prediction Zθ on the last
layer's features Z. Every function takes one network, or a population whose tensors and samples have
the same leading run axis: the products are then batched.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neural_tdc.networks.activations import Activation
from neural_tdc.randomness import generator
from neural_tdc.types import Parameters


class Layer(NamedTuple):
    """One layer of a body.

    weight: [*run, input, output]
    bias:   [*run, output]
    """

    weight: Tensor
    bias: Tensor


Layers = tuple[Layer, ...]


class Loss(NamedTuple):
    """A loss of predictions: its mean over samples, and its derivative by each prediction.

    value:      (prediction, target) → [*run]
    derivative: (prediction, target) → [*run, sample, output], without the mean's 1/n
    """

    value: Callable[[Tensor, Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor], Tensor]


def squared(
    prediction: Float[Tensor, "*run sample output"], target: Float[Tensor, "*run sample output"]
) -> Float[Tensor, "*run"]:
    """Return ‖prediction − y‖²/(2n), the fit of (8) of arXiv 2605.15530."""
    return (prediction - target).square().sum((-2, -1)) / (2 * target.shape[-2])


def deviation(
    prediction: Float[Tensor, "*run sample output"], target: Float[Tensor, "*run sample output"]
) -> Float[Tensor, "*run sample output"]:
    """Return prediction − y, the derivative of half the squared error."""
    return prediction - target


def one_hot(label: Int[Tensor, "*run sample"], classes: int) -> Bool[Tensor, "*run sample class"]:
    """Tell for every class whether it is the label; without a look at values."""
    return label[..., None] == torch.arange(classes, device=label.device)


def cross_entropy(
    prediction: Float[Tensor, "*run sample class"], label: Int[Tensor, "*run sample"]
) -> Float[Tensor, "*run"]:
    """Return −mean log softmax(prediction)_y, the fit of (11) of arXiv 2605.15530."""
    likelihood = torch.log_softmax(prediction, -1).gather(-1, label[..., None])
    return -likelihood.mean((-2, -1))


def probability_error(
    prediction: Float[Tensor, "*run sample class"], label: Int[Tensor, "*run sample"]
) -> Float[Tensor, "*run sample class"]:
    """Return P − Y, the derivative of the cross entropy by the predictions."""
    truth = one_hot(label, prediction.shape[-1])
    return torch.softmax(prediction, -1) - truth.to(prediction.dtype)


SQUARED = Loss(squared, deviation)
CROSS_ENTROPY = Loss(cross_entropy, probability_error)


class NetworkObjective(NamedTuple):
    """What a network minimises: mean loss + λ/2 ‖θ‖², for one activation of its body.

    loss:       `SQUARED` or `CROSS_ENTROPY`
    activation: one of `CLOSED_FORM_ACTIVATIONS`
    ridge:      λ ≥ 0
    """

    loss: Loss
    activation: Activation
    ridge: float


def initial_networks(
    sizes: Sequence[int], seed: int, runs: int, dtype: torch.dtype = torch.float32
) -> Parameters:
    """Draw one network a run: weights and biases uniform in ±1/√(fan-in), as `nn.Linear` does.

    sizes: units of the input, of every layer of the body, and of the output
    Run i depends on (seed, i) only. Raises ValueError for fewer than three sizes or one below 1.
    """
    if len(sizes) < 3 or min(sizes) < 1:
        raise ValueError(f"a network needs an input, a layer and an output, not sizes {[*sizes]}")
    drawn = [_drawn(sizes, generator(seed, "network", run)) for run in range(runs)]
    leaves = [torch.stack(tensors).to(dtype) for tensors in zip(*drawn)]
    body = tuple(Layer(*leaves[start : start + 2]) for start in range(0, len(leaves) - 1, 2))
    return Parameters(body, leaves[-1], {})


def _drawn(sizes: Sequence[int], source: torch.Generator) -> list[Tensor]:
    shapes: list[tuple[int, ...]] = []
    for fan_in, fan_out in pairwise(sizes[:-1]):
        shapes += [(fan_in, fan_out), (fan_out,)]
    shapes.append((sizes[-2], sizes[-1]))
    fans = [*(fan for fan in sizes[:-2] for _ in range(2)), sizes[-2]]
    return [
        (2 * torch.rand(shape, generator=source, dtype=torch.float64) - 1) / math.sqrt(fan)
        for shape, fan in zip(shapes, fans)
    ]


def features(
    body: Any, inputs: Float[Tensor, "*run sample input"], activation: Activation
) -> Float[Tensor, "*run sample feature"]:
    """Return the body's features Z, the values of its last layer."""
    for layer in body:
        inputs = _after(layer, inputs, activation)
    return inputs


def _after(layer: Layer, inputs: Tensor, activation: Activation) -> Tensor:
    return activation.function(inputs @ layer.weight + layer.bias[..., None, :])


def objective_value(
    objective: NetworkObjective, parameters: Parameters, inputs: Tensor, target: Tensor
) -> Float[Tensor, "*run"]:
    """Return f(W, θ) of each run: the mean loss with the ridge.

    inputs: [*run, sample, input]; target: [*run, sample], of numbers or of labels
    """
    prediction = features(parameters.body, inputs, objective.activation) @ parameters.head
    penalty = objective.ridge / 2 * parameters.head.square().sum((-2, -1))
    return objective.loss.value(prediction, target) + penalty


def gradients(
    objective: NetworkObjective,
    parameters: Parameters,
    inputs: Float[Tensor, "*run sample input"],
    target: Tensor,
) -> Parameters:
    """Return ∇_W f and ∇_θ f, of the shapes of the parameters, for each run.

    target: [*run, sample], of numbers or of labels

    For Z = σ(XW) and E the loss's derivative by the predictions: ∇_θ = ZᵀE/n + λθ, and backwards
    from Eθᵀ/n through every layer ∇_W = Xᵀ[(Eθᵀ)∘σ'(XW)]/n. Source: section 5 of arXiv 2605.15530
    for one layer, back-propagation for more.
    """
    body, head, _ = parameters
    values = [inputs]
    for layer in body:
        values.append(_after(layer, values[-1], objective.activation))
    error = objective.loss.derivative(values[-1] @ head, target) / inputs.shape[-2]
    by_head = values[-1].mT @ error + objective.ridge * head
    back = error @ head.mT
    by_body: list[Layer] = []
    for depth in reversed(range(len(body))):
        back = back * objective.activation.slope(values[depth + 1])
        by_body.insert(0, Layer(values[depth].mT @ back, back.sum(-2)))
        if depth:
            back = back @ body[depth].weight.mT
    return Parameters(tuple(by_body), by_head, {})
