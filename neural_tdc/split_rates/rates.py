"""The rates of an optimiser's groups: read, scaled, and held at their ratio under any schedule."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.hooks import RemovableHandle

from neural_tdc.split_rates.assembly import is_body

# Rates per group: attributes of torch's schedulers, and keys that they write into the groups.
_RATE_LISTS = ("max_lrs", "min_lrs", "base_lrs")
_RATE_KEYS = ("max_lr", "swa_lr")


def _name(group: Mapping[str, Any], index: int) -> Any:
    return group.get("name", group.get("label", index))


def _write_rate(group: dict[str, Any], rate: float) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def _base_rates(optimizer: Optimizer) -> list[float]:
    for index, group in enumerate(optimizer.param_groups):
        if "base_lr" not in group:
            raise ValueError(
                f"group {_name(group, index)!r} has no base_lr; make it with parameter_groups"
            )
    return [group["base_lr"] for group in optimizer.param_groups]


def scale(optimizer: Optimizer, factor: float | int) -> None:
    """Set the rate of every group to its own base rate times one factor, which keeps the split.

    Raises ValueError for a factor that is negative or not finite and a group without "base_lr".
    """
    if not math.isfinite(factor) or factor < 0:
        raise ValueError(f"the factor of a schedule must be finite and not negative, got {factor}")
    for group, base in zip(optimizer.param_groups, _base_rates(optimizer)):
        _write_rate(group, base * factor)


def effective_rates(optimizer: Optimizer) -> dict[str, float]:
    """Return the present learning rate of every label, e.g. `{"body": 1e-4, "head": 1e-3}`.

    Raises ValueError for a group without a label and for groups of one label at different rates.
    """
    rates: dict[str, float] = {}
    groups: Sequence[Mapping[str, Any]] = optimizer.param_groups
    for index, group in enumerate(groups):
        if "label" not in group:
            raise ValueError(f"group {index} has no label; make the groups with parameter_groups")
        label, rate = group["label"], float(group["lr"])
        if rates.setdefault(label, rate) != rate:
            raise ValueError(f"groups labelled {label!r} learn at {rates[label]} and {rate}")
    return rates


def _reference_index(optimizer: Optimizer, reference: str | None) -> int:
    labels = [group.get("label") for group in optimizer.param_groups]
    if reference is None:
        bases = _base_rates(optimizer)
        body = [index for index, label in enumerate(labels) if is_body(label)]
        return max(body, key=lambda index: bases[index], default=0)
    if reference not in labels:
        raise ValueError(f"no group is labelled {reference!r}; labels: {labels}")
    return labels.index(reference)


def _restore_ratio(optimizer: Optimizer, reference: int) -> None:
    """Set every rate from that of the reference group, by the ratio of the base rates."""
    bases = _base_rates(optimizer)
    rate = float(optimizer.param_groups[reference]["lr"])
    for index, (group, base) in enumerate(zip(optimizer.param_groups, bases)):
        if index != reference:
            # In this order groups of one base rate stay equal to the bit.
            _write_rate(group, rate * (base / bases[reference]))


def hold_ratio(optimizer: Optimizer, reference: str | None = None) -> RemovableHandle:
    """Restore the ratio of the groups' rates before every `step()` of an optimiser.

    For code that writes one rate into all groups, such as Stable-Baselines3: the rate of the
    reference group counts, every other group gets its own multiple of it. For schedulers of torch
    use `ConstantRatio`, which restores the ratio when the rates are written.

    reference: a label; by default the body, under layer decay its fastest layer; without a body
               the first group
    Call `remove()` of what is returned to end it. A copy or a pickle of the optimiser has no hold.
    Raises ValueError for a group without "base_lr" and an unknown label.
    """
    index = _reference_index(optimizer, reference)
    _restore_ratio(optimizer, index)
    return optimizer.register_step_pre_hook(lambda held, *_: _restore_ratio(held, index))


class ConstantRatio(LRScheduler):
    """A scheduler of torch under which the groups' rates keep their ratio.

    `OneCycleLR`, `CyclicLR`, `SWALR`, `eta_min` and `min_lr` write one rate into all groups. Here
    such a rate is that of the reference group; every other group gets its own multiple of it. The
    course of the reference group is the one that torch gives it.

        schedule = ConstantRatio(OneCycleLR(optimizer, max_lr=1e-3, total_steps=1000))

    scheduler: any scheduler, also `SequentialLR`, `ChainedScheduler` and `ReduceLROnPlateau`
    reference: a label; by default the body, under layer decay its fastest layer; without a body
               the first group
    Raises ValueError for a scheduler that was given different rates or functions for each group
    which are not in the ratio, for a group without "base_lr" and for an unknown label.
    """

    def __init__(self, scheduler: LRScheduler, reference: str | None = None) -> None:
        self.optimizer = scheduler.optimizer
        # Under this name SequentialLR finds the schedulers inside.
        self._schedulers = [scheduler]
        self._reference = _reference_index(self.optimizer, reference)
        _check_ratio(scheduler, _base_rates(self.optimizer))
        self._restore()

    @property
    def scheduler(self) -> LRScheduler:
        """The scheduler that was given."""
        return self._schedulers[0]

    def _restore(self) -> None:
        _restore_ratio(self.optimizer, self._reference)

    # SequentialLR calls these two when it hands over to its next scheduler.
    def _initial_step(self) -> None:
        self.scheduler._initial_step()
        self._restore()

    def _update_lr(self, epoch: int | None = None) -> None:
        self.scheduler._update_lr(epoch)
        self._restore()

    def step(self, *arguments: Any, **keywords: Any) -> None:
        """Step the scheduler, with what it takes (a metric for `ReduceLROnPlateau`)."""
        self.scheduler.step(*arguments, **keywords)
        self._restore()

    def get_last_lr(self) -> list[float | Tensor]:
        """Return the present rate of every group."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        return [rate.clone() if isinstance(rate, Tensor) else rate for rate in rates]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the scheduler that was given."""
        return self.scheduler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned; load the optimiser's state too, which has the rates."""
        self.scheduler.load_state_dict(state_dict)


def _check_ratio(scheduler: LRScheduler, bases: list[float]) -> None:
    """Raise ValueError where a scheduler has rates or functions per group out of the ratio."""
    kind = type(scheduler).__name__
    for inner in getattr(scheduler, "_schedulers", ()):
        _check_ratio(inner, bases)
    functions = getattr(scheduler, "lr_lambdas", None)
    if functions is not None and any(each is not functions[0] for each in functions):
        raise ValueError(
            f"{kind} has a function per group, so the ratio of the rates cannot be held; "
            "give one function"
        )
    groups = scheduler.optimizer.param_groups
    found: dict[str, Any] = {key: [group.get(key) for group in groups] for key in _RATE_KEYS}
    found |= {name: getattr(scheduler, name, None) for name in _RATE_LISTS}
    for name, values in found.items():
        if values is None or any(value is None for value in values):
            continue
        rates = [float(value) for value in values]
        same = all(math.isclose(rate, rates[0], rel_tol=1e-9) for rate in rates)
        factor = rates[0] / bases[0]
        if not same and not all(
            math.isclose(rate, base * factor, rel_tol=1e-6) for rate, base in zip(rates, bases)
        ):
            raise ValueError(
                f"{kind} has {name} {rates}, which are not in the ratio of the groups' rates "
                f"{bases}; give one number, that of the reference group"
            )
