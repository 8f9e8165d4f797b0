"""The ratio of the rates, under all schedulers of torch and other code."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import SWALR

from neural_tdc.split_rates import (
    ConstantRatio,
    effective_rates,
    hold_ratio,
    named_groups,
    parameter_groups,
    scale,
)

BODY_RATE, HEAD_RATE = 0.003, 0.02
STEPS = 24


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)
    ).double()


def groups_of(module: nn.Module) -> list[dict[str, Any]]:
    return parameter_groups(module, body_lr=BODY_RATE, head_lr=HEAD_RATE)


def train(module: nn.Module, optimizer: Optimizer, steps: int = 3) -> None:
    torch.manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        module(torch.randn(6, 5, dtype=torch.float64)).square().mean().backward()
        optimizer.step()


def test_scaling_keeps_the_split_and_always_starts_from_the_base_rate():
    optimizer = torch.optim.Adam(groups_of(network()))
    scale(optimizer, 0.5)
    scale(optimizer, 0.25)
    assert effective_rates(optimizer) == {"body": BODY_RATE / 4, "head": HEAD_RATE / 4}
    scale(optimizer, 0)
    assert effective_rates(optimizer) == {"body": 0.0, "head": 0.0}
    scale(optimizer, 1)
    assert effective_rates(optimizer) == {"body": BODY_RATE, "head": HEAD_RATE}


@pytest.mark.parametrize("factor", [-0.1, float("nan"), float("inf")])
def test_a_factor_that_is_negative_or_not_finite_is_refused(factor: float):
    optimizer = torch.optim.SGD(groups_of(network()))
    with pytest.raises(ValueError, match="factor of a schedule"):
        scale(optimizer, factor)
    assert effective_rates(optimizer) == {"body": BODY_RATE, "head": HEAD_RATE}


def test_rates_given_as_tensors_are_copied_and_scaled_in_place():
    rate = torch.tensor(0.01)
    body, head = parameter_groups(network(), body_lr=rate, head_lr=rate)
    assert isinstance(body["lr"], Tensor)
    assert body["lr"] is not head["lr"]
    optimizer = torch.optim.Adam([body, head])
    held = optimizer.param_groups[0]["lr"]
    scale(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] is held
    assert float(held) == pytest.approx(0.005)
    assert float(rate) == pytest.approx(0.01)


def test_labels_and_base_rates_survive_saving_and_loading(tmp_path):
    module = network()
    optimizer = torch.optim.RMSprop(groups_of(module))
    train(module, optimizer)
    scale(optimizer, 0.5)
    torch.save(optimizer.state_dict(), tmp_path / "checkpoint.pt")
    restored = torch.optim.RMSprop(parameter_groups(network(), body_lr=1.0, head_lr=1.0))
    restored.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    assert effective_rates(restored) == {"body": BODY_RATE / 2, "head": HEAD_RATE / 2}
    scale(restored, 1)
    assert effective_rates(restored) == {"body": BODY_RATE, "head": HEAD_RATE}


def test_groups_without_labels_or_with_two_rates_for_one_label_are_refused():
    module = network()
    with pytest.raises(ValueError, match="group 0 has no label"):
        effective_rates(torch.optim.SGD(module.parameters()))
    with pytest.raises(ValueError, match="group 0 has no base_lr"):
        scale(torch.optim.SGD(module.parameters()), 0.5)
    optimizer = torch.optim.SGD(groups_of(module))
    optimizer.param_groups[1]["label"] = "body"
    with pytest.raises(ValueError, match=r"labelled 'body' learn at 0\.003 and 0\.02"):
        effective_rates(optimizer)


def sequence(optimizer: Optimizer) -> LRScheduler:
    parts = [
        lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5),
        lr_scheduler.CosineAnnealingLR(optimizer, T_max=12, eta_min=1e-3),
        lr_scheduler.CyclicLR(optimizer, base_lr=1e-4, max_lr=2e-3, step_size_up=3),
    ]
    return lr_scheduler.SequentialLR(optimizer, parts, milestones=[5, 14])


def chain(optimizer: Optimizer) -> LRScheduler:
    parts = [
        lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=4),
        lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=5, eta_min=1e-3),
    ]
    return lr_scheduler.ChainedScheduler(parts)


# Every scheduler of torch, with the settings that write one rate into all groups where it has any.
SCHEDULERS: dict[str, Callable[[Optimizer], LRScheduler]] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda k: 1 / (k + 1)),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda k: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, step_size=5, gamma=0.1),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [3, 11], gamma=0.3),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, factor=0.5, total_iters=7),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=9),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, gamma=0.8),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, total_iters=20, power=2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=8, eta_min=1e-3),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(
        o, T_0=4, T_mult=2, eta_min=1e-3
    ),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, base_lr=1e-3, max_lr=5e-3, step_size_up=4),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.01, total_steps=STEPS + 1),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1, min_lr=1e-3),
    "SequentialLR": sequence,
    "ChainedScheduler": chain,
    "SWALR": lambda o: SWALR(o, swa_lr=0.001, anneal_epochs=10),
}


def step_schedule(scheduler: LRScheduler, plateau: bool) -> None:
    if plateau:
        scheduler.step(1.0)  # type: ignore[arg-type]
    else:
        scheduler.step()


def test_the_table_of_schedulers_is_complete():
    assert set(lr_scheduler.__all__) - set(SCHEDULERS) == {"LRScheduler"}
    assert set(SCHEDULERS) - set(lr_scheduler.__all__) == {"SWALR"}


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize("reference", ["body", "head"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_ratio_is_constant_and_the_reference_follows_torch(name: str, reference: str):
    optimizer = torch.optim.SGD(groups_of(network()), momentum=0.9)
    schedule = ConstantRatio(SCHEDULERS[name](optimizer), reference)
    own_rate = {"body": BODY_RATE, "head": HEAD_RATE}[reference]
    alone = torch.optim.SGD(network().parameters(), lr=own_rate, momentum=0.9)
    torchs = SCHEDULERS[name](alone)
    courses = []
    for _ in range(STEPS):
        rates = effective_rates(optimizer)
        courses.append(rates[reference])
        assert rates[reference] == pytest.approx(alone.param_groups[0]["lr"], rel=1e-12)
        assert rates["head"] == pytest.approx(rates["body"] * HEAD_RATE / BODY_RATE, rel=1e-12)
        assert schedule.get_last_lr() == list(rates.values())
        assert optimizer.param_groups[0]["momentum"] == alone.param_groups[0]["momentum"]
        optimizer.step()
        alone.step()
        step_schedule(schedule, name == "ReduceLROnPlateau")
        step_schedule(torchs, name == "ReduceLROnPlateau")
    assert len(set(courses)) > 1


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize(
    "name",
    ["OneCycleLR", "CyclicLR", "SWALR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts",
     "ReduceLROnPlateau", "SequentialLR", "ChainedScheduler"],
)  # fmt: skip
def test_without_the_guard_these_schedulers_lose_the_ratio(name: str):
    optimizer = torch.optim.SGD(groups_of(network()), momentum=0.9)
    scheduler = SCHEDULERS[name](optimizer)
    found = []
    for _ in range(STEPS):
        rates = effective_rates(optimizer)
        found.append(rates["head"] / rates["body"])
        step_schedule(scheduler, name == "ReduceLROnPlateau")
    assert min(found) < 0.9 * HEAD_RATE / BODY_RATE


@pytest.mark.parametrize(
    ("name", "factor"),
    [("LambdaLR", 1 / 6), ("StepLR", 0.1), ("PolynomialLR", 0.75**2), ("ConstantLR", 0.5)],
)
def test_schedulers_that_only_multiply_need_no_guard(name: str, factor: float):
    module = network()
    optimizer = torch.optim.RMSprop(groups_of(module))
    scheduler = SCHEDULERS[name](optimizer)
    for _ in range(5):
        train(module, optimizer, steps=1)
        scheduler.step()
    rates = effective_rates(optimizer)
    assert rates["body"] == pytest.approx(BODY_RATE * factor, rel=1e-12)
    assert rates["head"] == pytest.approx(HEAD_RATE * factor, rel=1e-12)


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_a_guarded_scheduler_may_be_part_of_a_sequence():
    optimizer = torch.optim.SGD(groups_of(network()))
    first = lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4)
    second = ConstantRatio(lr_scheduler.CosineAnnealingLR(optimizer, T_max=8, eta_min=1e-3))
    schedule = lr_scheduler.SequentialLR(optimizer, [first, second], milestones=[4])
    for _ in range(10):
        rates = effective_rates(optimizer)
        assert rates["head"] / rates["body"] == pytest.approx(HEAD_RATE / BODY_RATE, rel=1e-12)
        schedule.step()
    assert rates["body"] == pytest.approx(
        1e-3 + (BODY_RATE - 1e-3) * (1 + math.cos(math.pi * 5 / 8)) / 2
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda o: lr_scheduler.LambdaLR(o, [lambda k: 0.5**k, lambda k: 0.9**k]),
         "LambdaLR has a function per group"),
        (lambda o: lr_scheduler.OneCycleLR(o, [0.1, 0.2], total_steps=9, cycle_momentum=False),
         r"OneCycleLR has max_lr .* not in the ratio .*\[0\.003, 0\.02\]"),
        (lambda o: lr_scheduler.CyclicLR(o, [1e-3, 2e-3], 0.1, cycle_momentum=False),
         "CyclicLR has base_lrs"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, min_lr=[0.0, 1e-3]),
         "ReduceLROnPlateau has min_lrs"),
        (lambda o: SWALR(o, swa_lr=[0.1, 0.2]), "SWALR has swa_lr"),
        (lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.MultiplicativeLR(o, [lambda k: 0.5, lambda k: 0.9])]),
         "MultiplicativeLR has a function per group"),
    ],
)  # fmt: skip
def test_rates_per_group_out_of_the_ratio_are_refused_at_construction(make, said):
    with pytest.raises(ValueError, match=said):
        ConstantRatio(make(torch.optim.SGD(groups_of(network()))))


def test_rates_per_group_in_the_ratio_are_taken():
    optimizer = torch.optim.SGD(groups_of(network()))
    scheduler = lr_scheduler.OneCycleLR(
        optimizer, [0.03, 0.2], total_steps=9, cycle_momentum=False, div_factor=10
    )
    ConstantRatio(scheduler)
    assert effective_rates(optimizer) == pytest.approx({"body": 0.003, "head": 0.02})


def test_a_guard_needs_base_rates_and_a_label_that_exists():
    plain = torch.optim.SGD(network().parameters(), lr=0.1)
    with pytest.raises(ValueError, match="group 0 has no base_lr"):
        ConstantRatio(lr_scheduler.StepLR(plain, 3))
    with pytest.raises(ValueError, match="group 0 has no base_lr"):
        hold_ratio(plain)
    split = torch.optim.SGD(groups_of(network()))
    with pytest.raises(
        ValueError, match=r"no group is labelled 'tail'; labels: \['body', 'head'\]"
    ):
        ConstantRatio(lr_scheduler.StepLR(split, 3), "tail")


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_a_guarded_schedule_resumes_from_its_state(tmp_path):
    def made() -> tuple[Optimizer, ConstantRatio]:
        optimizer = torch.optim.SGD(groups_of(network()), momentum=0.9)
        return optimizer, ConstantRatio(SCHEDULERS["OneCycleLR"](optimizer))

    def course(optimizer: Optimizer, schedule: ConstantRatio, steps: int) -> list[dict[str, float]]:
        found = []
        for _ in range(steps):
            schedule.step()
            found.append(effective_rates(optimizer))
        return found

    whole = course(*made(), steps=20)
    optimizer, schedule = made()
    course(optimizer, schedule, steps=8)
    torch.save([optimizer.state_dict(), schedule.state_dict()], tmp_path / "state.pt")
    optimizer, schedule = made()
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    optimizer.load_state_dict(saved[0])
    schedule.load_state_dict(saved[1])
    assert course(optimizer, schedule, steps=12) == whole[8:]


def test_one_rate_written_into_all_groups_is_undone_before_the_step():
    module, expected = network(), network()
    optimizer = torch.optim.RMSprop(groups_of(module))
    handle = hold_ratio(optimizer)
    for group in optimizer.param_groups:
        group["lr"] = BODY_RATE / 2
    train(module, optimizer)
    assert effective_rates(optimizer) == {"body": BODY_RATE / 2, "head": HEAD_RATE / 2}
    other = torch.optim.RMSprop(
        parameter_groups(expected, body_lr=BODY_RATE / 2, head_lr=HEAD_RATE / 2)
    )
    train(expected, other)
    for ours, theirs in zip(module.parameters(), expected.parameters()):
        assert torch.equal(ours, theirs)
    handle.remove()
    for group in optimizer.param_groups:
        group["lr"] = 0.5
    train(module, optimizer)
    assert effective_rates(optimizer) == {"body": 0.5, "head": 0.5}


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_three_groups_and_rates_in_tensors_are_held_in_place():
    rates = {"0": torch.tensor(0.01), "2": torch.tensor(0.02), "4": torch.tensor(0.5)}
    optimizer = torch.optim.Adam(named_groups(network(), rates))
    tensors = [group["lr"] for group in optimizer.param_groups]
    schedule = ConstantRatio(lr_scheduler.OneCycleLR(optimizer, 0.04, total_steps=9))
    for _ in range(5):
        schedule.step()
        found = effective_rates(optimizer)
        assert found["2"] == pytest.approx(2 * found["0"], rel=1e-6)
        assert found["4"] == pytest.approx(50 * found["0"], rel=1e-6)
    assert all(group["lr"] is held for group, held in zip(optimizer.param_groups, tensors))


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_groups_with_and_without_weight_decay_keep_one_rate_to_the_bit():
    groups = parameter_groups(network(), lr=1e-4, ratio=10, weight_decay=0.01, layer_decay=0.7)
    optimizer = torch.optim.AdamW(groups)
    schedule = ConstantRatio(lr_scheduler.CosineAnnealingLR(optimizer, T_max=8, eta_min=1e-5))
    for _ in range(8):
        assert list(effective_rates(optimizer)) == ["body.0", "body.1", "head"]
        schedule.step()
    # The rate that is written is that of the body's fastest layer.
    assert effective_rates(optimizer)["body.1"] == pytest.approx(1e-5)
    assert effective_rates(optimizer)["body.0"] == pytest.approx(0.7e-5)
