"""Fully connected layers of many networks as one batched matrix product, with its gradient.

Autograd would give the weights' gradient transposed, and an optimiser would copy it: a third of the
time of such a layer. Here it comes in the order of the weights.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class _BatchedLinear(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        context.save_for_backward(x, weight)
        return torch.baddbmm(bias[:, None], x, weight.mT)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = context.saved_tensors
        of_x, of_weight, of_bias = context.needs_input_grad
        found: list[Tensor | None] = [torch.bmm(gradient, weight) if of_x else None, None, None]
        if of_weight:
            # Products with few columns are slow: the longer side is that of the columns.
            wide = weight.shape[2] >= weight.shape[1]
            found[1] = torch.bmm(gradient.mT, x) if wide else torch.bmm(x.mT, gradient).mT
        if of_bias:
            found[2] = gradient.sum(1)
        return tuple(found)


def batched_linear(
    x: Float[Tensor, "run batch input"],
    weight: Float[Tensor, "run output input"],
    bias: Float[Tensor, "run output"],
) -> Float[Tensor, "run batch output"]:
    """Return x·weightᵀ + bias of every run; its gradient can be taken once."""
    return _BatchedLinear.apply(x, weight, bias)
