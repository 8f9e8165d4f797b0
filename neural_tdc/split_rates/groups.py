"""Parameter groups for a `torch.optim` optimiser, each with its own learning rate."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from neural_tdc.split_rates.assembly import BODY, HEAD, Rate, grouped
from neural_tdc.split_rates.heads import body_layers, find_head, find_submodule, parameter_names


def _checked_rate(name: str, rate: Rate | None) -> float:
    value = float(rate) if isinstance(rate, int | float | Tensor) else math.nan
    if isinstance(rate, bool) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be a finite number above 0, got {rate!r}")
    return value


def _two_rates(
    body_lr: Rate | None, head_lr: Rate | None, lr: Rate | None, ratio: float | int | None
) -> tuple[Rate, Rate]:
    """Return body's and head's rate, given as two rates or as one and a ratio."""
    if body_lr is not None and head_lr is not None and lr is None and ratio is None:
        _checked_rate("body_lr", body_lr)
        _checked_rate("head_lr", head_lr)
        return body_lr, head_lr
    if lr is not None and ratio is not None and body_lr is None and head_lr is None:
        _checked_rate("lr", lr)
        _checked_rate("ratio", ratio)
        return lr, lr * ratio
    raise ValueError("give either body_lr and head_lr, or lr (the body's) and ratio (head to body)")


def parameter_groups(
    module: nn.Module,
    *,
    body_lr: Rate | None = None,
    head_lr: Rate | None = None,
    lr: Rate | None = None,
    ratio: float | int | None = None,
    head: str | nn.Module | None = None,
    tied: str | None = None,
    layer_decay: float | int | None = None,
    layers: Sequence[str] | None = None,
    weight_decay: float | int | None = None,
) -> list[dict[str, Any]]:
    """Split the parameters of a module into a body and a head group for a `torch.optim` optimiser.

    Each group has "params", "lr", "label" ("body" or "head"), "name" (the label, or
    "body/no_decay"), "base_lr" (the rate that schedules scale) and "frozen": the names of its
    parameters that were left out, because they do not require gradients. A group whose parameters
    are all frozen stays, empty, so that its rate is logged.

    body_lr, head_lr: the two rates, or instead
    lr, ratio:        the body's rate, and how many times faster the head learns
    head:         the submodule that learns at the head's rate, itself or its name; by default the
                  last linear layer, see `last_linear`. It may be any submodule with parameters.
    tied:         "body" or "head": the group of a parameter that the head shares with the body,
                  e.g. an output layer tied to an embedding; without it such a parameter is an error
    layer_decay:  above 0, at most 1: layer i of n in the body learns at body_lr·layer_decay^(n−1−i)
                  under the label "body.i", so that the last layer of the body has body_lr
    layers:       the body's layers by name from input to output, where `layer_decay` is given; by
                  default the module's children, containers opened. Other parameters join layer 0.
    weight_decay: 0 or above; biases and normalisations get a group of their own with weight decay
                  0. By default the optimiser's own weight decay applies to all parameters.
    A rate is a number, or a tensor of one element where the optimiser wants one (each group gets
    its own copy, which schedulers then change in place).

    Raises ValueError for a rate that is not finite and above 0, a module without a linear layer, an
    unknown head name, a head without a body, and a parameter tied across the split.
    Source: update (2) of arXiv 2605.15530; layer decay as in BEiT (https://arxiv.org/abs/2106.08254).
    """
    body_rate, head_rate = _two_rates(body_lr, head_lr, lr, ratio)
    if tied not in (None, BODY, HEAD):
        raise ValueError(f'tied must be "body", "head" or None, got {tied!r}')
    head_name, head_module = find_head(module, head)
    of_head = {id(parameter) for parameter in head_module.parameters()}
    if len(of_head) == len(parameter_names(module)):
        raise ValueError(
            f"{type(module).__name__} has no parameters outside its head {head_name!r}: no body"
        )
    if layer_decay is None:
        if layers is not None:
            raise ValueError("layers has no effect without layer_decay")
        rates = {BODY: body_rate, HEAD: head_rate}
        return grouped(module, rates, {HEAD: [head_module]}, BODY, tied, weight_decay)

    decay = _checked_rate("layer_decay", layer_decay)
    if decay > 1:
        raise ValueError(f"layer_decay must be at most 1, got {layer_decay!r}")
    if layers is None:
        found = body_layers(module, head_module)
    else:
        found = [[find_submodule(module, name, "layer")] for name in layers]
    if len(found) < 2:
        raise ValueError(
            f"layer_decay needs a body of at least two layers, {type(module).__name__} shows "
            f"{len(found)}; name them by layers"
        )
    labels = [f"{BODY}.{index}" for index in range(len(found))]
    rates = {
        **{label: body_rate * decay ** (len(found) - 1 - i) for i, label in enumerate(labels)},
        HEAD: head_rate,
    }
    parts: dict[str, Sequence[nn.Module | Tensor]] = {**dict(zip(labels, found))}
    parts[HEAD] = [head_module]
    return grouped(module, rates, parts, labels[0], tied, weight_decay)


def named_groups(
    module: nn.Module,
    rates: Mapping[str, Rate],
    *,
    members: Mapping[str, Sequence[str]] | None = None,
    rest: str | None = None,
    tied: str | None = None,
    weight_decay: float | int | None = None,
) -> list[dict[str, Any]]:
    """Split the parameters of a module into any number of groups with a learning rate each.

    rates:   the rate of each group by its label, which is the name of a submodule or of a parameter
             if `members` does not say otherwise
    members: the names of the submodules and parameters of a label. Of two submodules of which one
             contains the other, the inner one decides.
    rest:    the label that takes all other parameters
    tied, weight_decay, and what a group holds: as in `parameter_groups`, `tied` any label

        named_groups(network, {"encoder": 1e-4, "policy": 1e-3, "value": 3e-3})

    Raises ValueError for a rate that is not finite and above 0, an unknown name, a parameter that
    no label takes, and one that two labels take.
    """
    if not rates:
        raise ValueError("rates names no group")
    for label, rate in rates.items():
        _checked_rate(f"the rate of {label!r}", rate)
    named = (("rest", rest), ("tied", tied), *(("members", label) for label in members or ()))
    for given, used in named:
        if used is not None and used not in rates:
            raise ValueError(f"{given} names {used!r}, which has no rate; rates: {list(rates)}")
    parameters = dict(module.named_parameters(remove_duplicate=False))
    parts: dict[str, Sequence[nn.Module | Tensor]] = {}
    for label in rates:
        names = (members or {}).get(label, () if label == rest else (label,))
        parts[label] = [
            parameters[name] if name in parameters else find_submodule(module, name, "group")
            for name in names
        ]
    return grouped(module, rates, parts, rest, tied, weight_decay)
