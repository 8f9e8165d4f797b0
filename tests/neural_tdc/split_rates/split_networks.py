"""Networks to split, and how their groups are read."""

from typing import Any

import torch
from torch import Tensor, nn

from neural_tdc.split_rates import (
    parameter_groups,
)

BODY_RATE, HEAD_RATE = 0.003, 0.02


class Pretrained(nn.Module):
    """A body from elsewhere (convolution, normalisation, attention) under a fresh linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(3, 4, kernel_size=2)
        self.norm = nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, num_heads=2, batch_first=True)
        self.hidden = nn.Linear(4, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, observation: Tensor) -> Tensor:
        tokens = self.norm(self.stem(observation).transpose(1, 2))
        mixed, _ = self.attention(tokens, tokens, tokens)
        return self.head(torch.tanh(self.hidden(mixed.mean(1))))


class Tied(nn.Module):
    """An output layer tied to the embedding, as in a language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 3)
        self.mixing = nn.Linear(3, 3)
        self.readout = nn.Linear(3, 7)
        self.readout.weight = self.embedding.weight

    def forward(self, token: Tensor) -> Tensor:
        return self.readout(torch.tanh(self.mixing(self.embedding(token))))


def network(bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 4, bias=bias), nn.Tanh(), nn.Linear(4, 3, bias=bias), nn.Tanh(),
        nn.Linear(3, 2, bias=bias),
    ).double()  # fmt: skip


def names_in(module: nn.Module, group: dict[str, Any]) -> set[str]:
    members = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in module.named_parameters() if id(parameter) in members}


def groups_of(module: nn.Module, **options: Any) -> list[dict[str, Any]]:
    return parameter_groups(module, body_lr=BODY_RATE, head_lr=HEAD_RATE, **options)
