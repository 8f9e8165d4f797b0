"""Two learning rates in one stock optimiser: a slow body, a fast last layer.

    groups = parameter_groups(network, body_lr=1e-4, head_lr=1e-3)
    optimizer = torch.optim.RMSprop(groups)

Each group carries its label and its own base rate, so that a schedule can scale both rates and
never overwrite the split. Source: update (2) of arXiv 2605.15530.
"""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

BODY = "body"
HEAD = "head"

# torch.compile wraps a module and prefixes the names inside it.
_COMPILED_PREFIX = "_orig_mod."


def _plain(name: str) -> str:
    return f"{name}.".replace(_COMPILED_PREFIX, "").removesuffix(".")


def last_linear(module: nn.Module) -> tuple[str, nn.Linear]:
    """Return name and layer of the last `nn.Linear` of a module, in the order of registration.

    The order is that of `module.named_modules()`: attributes as `__init__` assigned them, a child's
    own layers before the next child. It is the order of the forward pass for every network that
    registers its layers as it uses them; name the head of any other network. Subclasses of
    `nn.Linear` count; the projection inside `nn.MultiheadAttention` does not. The name is the one
    inside the module itself, without the prefix that `torch.compile` adds.

    Raises ValueError where there is no linear layer.
    """
    inside_attention = {
        id(layer)
        for attention in module.modules()
        if isinstance(attention, nn.MultiheadAttention)
        for layer in attention.modules()
    }
    found = [
        (_plain(name), layer)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and id(layer) not in inside_attention
    ]
    if not found:
        raise ValueError(
            f"{type(module).__name__} has no nn.Linear layer to serve as its head; "
            "name the submodule that shall learn at the head's rate"
        )
    return found[-1]


def _named_head(module: nn.Module, head: str | nn.Module | None) -> tuple[str, nn.Module]:
    if head is None:
        return last_linear(module)
    # named_modules lists the compiled wrapper before the module it wraps, under the same plain name
    submodules = {_plain(name): layer for name, layer in module.named_modules()}
    if isinstance(head, nn.Module):
        for name, layer in module.named_modules():
            if layer is head:
                return _plain(name), layer
        raise ValueError(
            f"the head, a {type(head).__name__}, is no submodule of {type(module).__name__}"
        )
    if head == "" or head not in submodules:
        names = [name for name in submodules if name]
        nearest = difflib.get_close_matches(head, names, n=3, cutoff=0.4) or names[-3:]
        listed = ", ".join(repr(name) for name in nearest) or "none, it has no submodules"
        raise ValueError(
            f"{type(module).__name__} has no submodule {head!r} to be its head; nearest: {listed}"
        )
    return head, submodules[head]


def _checked_rate(name: str, rate: float | int | Tensor) -> float:
    value = float(rate) if isinstance(rate, int | float | Tensor) else math.nan
    if isinstance(rate, bool) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be a finite number above 0, got {rate!r}")
    return value


def _own(rate: float | int | Tensor) -> float | Tensor:
    return rate.clone() if isinstance(rate, Tensor) else float(rate)


def _names_of(module: nn.Module) -> dict[int, list[str]]:
    """Every name of every parameter: a tied parameter has more than one."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        known = names.setdefault(id(parameter), [])
        if _plain(name) not in known:
            known.append(_plain(name))
    return names


def parameter_groups(
    module: nn.Module,
    *,
    body_lr: float | int | Tensor,
    head_lr: float | int | Tensor,
    head: str | nn.Module | None = None,
    tied: Literal["body", "head"] | None = None,
) -> list[dict[str, Any]]:
    """Split the parameters of a module into a body and a head group for a `torch.optim` optimiser.

    Each group has "params", "lr", "label" ("body" or "head"), "base_lr" (the rate that schedules
    scale) and "frozen": the names of its parameters that were left out, because they do not require
    gradients. A group whose parameters are all frozen stays, empty, so that its rate is logged.

    head: the submodule that learns at `head_lr`, itself or its name; by default the last linear
          layer, see `last_linear`. A named head may be any submodule with parameters.
    tied: the group of a parameter that the head shares with the body, e.g. an output layer tied to
          an embedding; without it such a parameter is an error.
    lr:   a number, or a tensor of one element where the optimiser wants one (each group gets its
          own copy, which schedulers then change in place).

    Raises ValueError for a rate that is not finite and above 0, a module without a linear layer, an
    unknown head name, a head without a body, and a parameter tied across the split.
    Source: update (2) of arXiv 2605.15530.
    """
    rates = {BODY: _checked_rate("body_lr", body_lr), HEAD: _checked_rate("head_lr", head_lr)}
    given = {BODY: body_lr, HEAD: head_lr}
    if tied not in (None, BODY, HEAD):
        raise ValueError(f'tied must be "body", "head" or None, got {tied!r}')
    head_name, head_module = _named_head(module, head)
    if next(head_module.parameters(), None) is None:
        raise ValueError(f"the head {head_name!r} has no parameters")

    members: dict[str, list[Tensor]] = {BODY: [], HEAD: []}
    frozen: dict[str, list[str]] = {BODY: [], HEAD: []}
    names = _names_of(module)
    of_head = {id(parameter) for parameter in head_module.parameters()}
    if len(of_head) == len(names):
        raise ValueError(
            f"{type(module).__name__} has no parameters outside its head {head_name!r}: no body"
        )
    of_body = _parameters_outside(module, head_module)
    for parameter in module.parameters():
        own_names = names[id(parameter)]
        label = HEAD if id(parameter) in of_head else BODY
        if id(parameter) in of_head and id(parameter) in of_body:
            if tied is None:
                raise ValueError(
                    f"parameter {' = '.join(own_names)} belongs to body and head at once; "
                    'pass tied="body" or tied="head" to say at which rate it learns'
                )
            label = tied
        if parameter.requires_grad:
            members[label].append(parameter)
        else:
            frozen[label].append(own_names[0])
    if not any(members.values()):
        raise ValueError(f"every parameter of {type(module).__name__} is frozen")
    groups = [
        {
            "params": members[label],
            "lr": _own(given[label]),
            "label": label,
            "base_lr": rates[label],
            "frozen": frozen[label],
        }
        for label in (BODY, HEAD)
    ]
    check_groups(module, groups)
    return groups


def _parameters_outside(module: nn.Module, head_module: nn.Module) -> set[int]:
    """The parameters that some submodule outside the head holds directly."""
    inside = {id(layer) for layer in head_module.modules()}
    return {
        id(parameter)
        for layer in module.modules()
        if id(layer) not in inside
        for parameter in layer.parameters(recurse=False)
    }


def check_groups(module: nn.Module, groups: Iterable[Mapping[str, Any]]) -> None:
    """Check that every trainable parameter of a module is in exactly one group.

    groups: as from `parameter_groups`, or an optimiser's `param_groups`.
    Raises ValueError that names the parameter in no group or in two, or the group that holds a
    parameter that is not the module's, e.g. of a layer replaced since.
    """
    names = _names_of(module)
    place: dict[int, int] = {}
    for index, group in enumerate(groups):
        label = group.get("label", index)
        for parameter in group["params"]:
            if id(parameter) not in names:
                raise ValueError(
                    f"group {label!r} holds a parameter of shape {tuple(parameter.shape)} "
                    f"that {type(module).__name__} does not have"
                )
            if id(parameter) in place:
                name = " = ".join(names[id(parameter)])
                raise ValueError(f"parameter {name} stands twice in the groups, again in {label!r}")
            place[id(parameter)] = index
    for parameter in module.parameters():
        if parameter.requires_grad and id(parameter) not in place:
            name = " = ".join(names[id(parameter)])
            raise ValueError(f"parameter {name} is in no group, so it would not be trained")


def scale(optimizer: Optimizer, factor: float | int) -> None:
    """Set the rate of every group to its own base rate times one factor, which keeps the split.

    Torch's own schedulers (`LambdaLR`, `CosineAnnealingLR`, …) scale each group too and may be used
    instead; what erases a split is code that writes one rate into every group.
    Raises ValueError for a factor that is negative or not finite and a group without "base_lr".
    """
    if not math.isfinite(factor) or factor < 0:
        raise ValueError(f"the factor of a schedule must be finite and not negative, got {factor}")
    for index, group in enumerate(optimizer.param_groups):
        if "base_lr" not in group:
            raise ValueError(
                f"group {group.get('label', index)!r} has no base_lr; make it by parameter_groups"
            )
        rate = group["base_lr"] * factor
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def effective_rates(optimizer: Optimizer) -> dict[str, float]:
    """Return the present learning rate of every label, e.g. `{"body": 1e-4, "head": 1e-3}`.

    Raises ValueError for a group without a label and for groups of one label at different rates.
    """
    rates: dict[str, float] = {}
    groups: Sequence[Mapping[str, Any]] = optimizer.param_groups
    for index, group in enumerate(groups):
        if "label" not in group:
            raise ValueError(f"group {index} has no label; make the groups by parameter_groups")
        label, rate = group["label"], float(group["lr"])
        if rates.setdefault(label, rate) != rate:
            raise ValueError(f"groups labelled {label!r} learn at {rates[label]} and {rate}")
    return rates
