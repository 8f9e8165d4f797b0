"""Muon for the body's matrices and AdamW for the rest, one ratio of rates."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from neural_tdc.split_rates import ConstantRatio, effective_rates, muon_adamw

LR, RATIO = 0.002, 5


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.hidden = nn.Linear(4, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, token: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.hidden(self.norm(self.embedding(token)))))


def reader() -> Reader:
    torch.manual_seed(0)
    return Reader()


def backward(module: nn.Module) -> None:
    module.zero_grad()
    module(torch.tensor([0, 3, 5, 6])).square().mean().backward()


def test_muon_gets_the_hidden_matrices_and_adamw_everything_else():
    module = reader()
    muon, adamw = muon_adamw(module, lr=LR, ratio=RATIO)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    held = [
        {group["name"]: [names[id(p)] for p in group["params"]] for group in each.param_groups}
        for each in (muon, adamw)
    ]
    assert held == [
        {"body": ["hidden.weight"]},
        {
            "body": ["embedding.weight"],
            "body/no_decay": ["norm.weight", "norm.bias", "hidden.bias"],
            "head": ["head.weight"],
            "head/no_decay": ["head.bias"],
        },
    ]
    assert effective_rates(muon) == {"body": LR}
    assert effective_rates(adamw) == {"body": LR, "head": LR * RATIO}
    assert muon.param_groups[0]["weight_decay"] == 0.1


def test_a_step_is_that_of_either_optimiser_alone_and_as_large_as_adamws():
    module = reader()
    expected = copy.deepcopy(module)
    for optimizer in muon_adamw(module, lr=LR, ratio=RATIO, weight_decay=0):
        backward(module)
        optimizer.step()
        break
    backward(expected)
    torch.optim.Muon(
        [expected.hidden.weight], lr=LR, weight_decay=0, adjust_lr_fn="match_rms_adamw"
    ).step()
    assert torch.equal(module.hidden.weight, expected.hidden.weight)
    assert torch.equal(module.head.weight, expected.head.weight)
    moved = (module.hidden.weight - reader().hidden.weight).square().mean().sqrt()
    # AdamW moves entries by about 0.2 to 0.4 of its rate in the long run, by the rate at first.
    assert 0.1 * LR < moved < LR


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_one_schedule_each_holds_one_ratio_over_both():
    optimizers = muon_adamw(reader(), lr=LR, ratio=RATIO, layer_decay=0.5)
    schedules = [
        ConstantRatio(lr_scheduler.OneCycleLR(each, LR, total_steps=9, cycle_momentum=False))
        for each in optimizers
    ]
    # The embedding is layer 0, under AdamW; Muon trains the matrix of layer 1 alone.
    assert effective_rates(optimizers[0]).keys() == {"body.1"}
    for _ in range(8):
        muon, adamw = (effective_rates(each) for each in optimizers)
        assert adamw["head"] == pytest.approx(RATIO * muon["body.1"])
        assert adamw["head"] == pytest.approx(RATIO * adamw["body.1"])
        assert adamw["head"] == pytest.approx(2 * RATIO * adamw["body.0"])
        for schedule in schedules:
            schedule.step()


def test_a_body_without_a_matrix_is_refused():
    module = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 3))
    with pytest.raises(ValueError, match="the body of Sequential has no matrix for Muon to train"):
        muon_adamw(module, lr=LR, ratio=RATIO)
