"""The groups themselves: which label takes a parameter, and what a group holds.

A group's "label" names its rate. Its "name" is unique: where a label has a group with weight decay
and one without, the second is called "body/no_decay".
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from neural_tdc.split_rates.heads import parameter_names

BODY = "body"
HEAD = "head"
NO_DECAY = "/no_decay"

Rate = float | int | Tensor

_NORMALISATIONS = (
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._NormBase,
)


def _own(rate: Rate) -> float | Tensor:
    return rate.clone() if isinstance(rate, Tensor) else float(rate)


def _labels_of(
    module: nn.Module, parts: Mapping[str, Sequence[nn.Module | Tensor]], rest: str | None
) -> dict[int, list[str | None]]:
    """Return the labels that take each parameter, by its id, in the order of its layers."""
    label_of: dict[int, str] = {}
    claims = [(label, part) for label, own in parts.items() for part in own]
    modules = [(label, part) for label, part in claims if isinstance(part, nn.Module)]
    # Outer modules first, so that an inner one overwrites them.
    modules.sort(key=lambda claim: -sum(1 for _ in claim[1].modules()))
    for index, (label, part) in enumerate(modules):
        for other, same in modules[:index]:
            if same is part and other != label:
                raise ValueError(f"{other!r} and {label!r} take the same {type(part).__name__}")
        label_of.update((id(layer), label) for layer in part.modules())
    labels: dict[int, list[str | None]] = {}
    for layer in module.modules():
        for parameter in layer.parameters(recurse=False):
            known = labels.setdefault(id(parameter), [])
            label_here = label_of.get(id(layer), rest)
            if label_here not in known:
                known.append(label_here)
    labels.update((id(part), [label]) for label, part in claims if isinstance(part, Tensor))
    return labels


def _one_label(labels: list[str | None], tied: str | None, names: list[str]) -> str | None:
    """Return the label of a parameter that several may take."""
    families = list(dict.fromkeys(BODY if is_body(label) else label for label in labels))
    if len(families) == 1:
        # Tied inside a body with layer decay: the layer nearest to the input, the slowest.
        return labels[0]
    if tied is None or tied not in families:
        listed = " and ".join(str(family) for family in families)
        choices = " or ".join(f'tied="{family}"' for family in families)
        raise ValueError(
            f"parameter {' = '.join(names)} belongs to {listed} at once; "
            f"pass {choices} to say at which rate it learns"
        )
    return next(label for label in labels if (BODY if is_body(label) else label) == tied)


def is_body(label: str | None) -> bool:
    """Return whether a label is "body" or that of a layer of the body, "body.3"."""
    parts = (label or "").split(".")
    return parts == [BODY] or (len(parts) == 2 and parts[0] == BODY and parts[1].isdigit())


def _without_decay(module: nn.Module) -> set[int]:
    """Return the ids of the biases and of the parameters of normalisations."""
    return {
        id(parameter)
        for layer in module.modules()
        for parameter in layer.parameters(recurse=False)
        if parameter.ndim < 2 or isinstance(layer, _NORMALISATIONS)
    }


def grouped(
    module: nn.Module,
    rates: Mapping[str, Rate],
    parts: Mapping[str, Sequence[nn.Module | Tensor]],
    rest: str | None,
    tied: str | None,
    weight_decay: float | int | None,
) -> list[dict[str, Any]]:
    """Return the groups; parts: what each label takes, rest: the label of all others.

    Raises ValueError for a weight decay that is negative or not finite, for a parameter that is in
    no group or in several, and where all parameters are frozen.
    """
    if weight_decay is not None and not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"weight_decay must be finite and not negative, got {weight_decay!r}")
    names = parameter_names(module)
    labels = _labels_of(module, parts, rest)
    undecayed = _without_decay(module) if weight_decay is not None else set()
    suffixes = ("", NO_DECAY) if weight_decay is not None else ("",)
    members: dict[str, list[Tensor]] = {f"{label}{s}": [] for label in rates for s in suffixes}
    frozen: dict[str, list[str]] = {name: [] for name in members}
    for parameter in module.parameters():
        label = _one_label(labels[id(parameter)], tied, names[id(parameter)])
        if label is None:
            if parameter.requires_grad:
                raise ValueError(
                    f"parameter {' = '.join(names[id(parameter)])} is in no group, so it would not "
                    "be trained; name its submodule, or pass rest"
                )
            continue
        group = f"{label}{NO_DECAY if id(parameter) in undecayed else ''}"
        if parameter.requires_grad:
            members[group].append(parameter)
        else:
            frozen[group].append(names[id(parameter)][0])
    if not any(members.values()):
        raise ValueError(f"every parameter of {type(module).__name__} is frozen")
    groups: list[dict[str, Any]] = []
    for label, rate in rates.items():
        for suffix in suffixes:
            name = f"{label}{suffix}"
            if suffix and not members[name] and not frozen[name]:
                continue
            entry = {
                "params": members[name],
                "lr": _own(rate),
                "label": label,
                "name": name,
                "base_lr": float(rate),
                "frozen": frozen[name],
            }
            if weight_decay is not None:
                entry["weight_decay"] = 0.0 if suffix else float(weight_decay)
            groups.append(entry)
    check_groups(module, groups)
    return groups


def check_groups(module: nn.Module, groups: Iterable[Mapping[str, Any]]) -> None:
    """Check that every trainable parameter of a module is in exactly one group.

    groups: as from `parameter_groups`, or an optimiser's `param_groups`.
    Raises ValueError that names the parameter in no group or in two, or the group that holds a
    parameter that is not the module's, e.g. of a layer replaced since.
    """
    names = parameter_names(module)
    placed: set[int] = set()
    for index, group in enumerate(groups):
        label = group.get("name", index)
        for parameter in group["params"]:
            if id(parameter) not in names:
                raise ValueError(
                    f"group {label!r} holds a parameter of shape {tuple(parameter.shape)} "
                    f"that {type(module).__name__} does not have"
                )
            if id(parameter) in placed:
                name = " = ".join(names[id(parameter)])
                raise ValueError(
                    f"parameter {name} is in the groups twice, the second time in {label!r}"
                )
            placed.add(id(parameter))
    for parameter in module.parameters():
        if parameter.requires_grad and id(parameter) not in placed:
            name = " = ".join(names[id(parameter)])
            raise ValueError(f"parameter {name} is in no group, so it would not be trained")
