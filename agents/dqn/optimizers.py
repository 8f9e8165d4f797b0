"""The optimisers of a Q-network: made with two rates, saved and restored on any device.

On a GPU the rates and the numbers of steps are tensors there, so that an update can be recorded as
a CUDA graph, which has no numbers of the host but those of its recording. What is saved is the same
everywhere: a run may be resumed on another device.
"""

from typing import Any

import torch
from torch import Tensor, nn

from neural_tdc.split_rates import parameter_groups

OPTIMIZERS = ("rmsprop", "adam", "sgd")
# RMSProp's constants are those of Mnih et al. 2015, Adam's those of PyTorch.
DECAY = 0.95
DEFAULT_EPS = {"rmsprop": 0.01, "adam": 1e-8, "sgd": 0.0}
# The label of the third group.
AUXILIARY = "auxiliary"
# How torch's optimisers compute, which depends on the device and is not part of what was learned.
_WAYS = ("foreach", "fused", "capturable")


def make_optimizer(
    name: str,
    network: nn.Module,
    body_rate: float,
    head_rate: float,
    eps: float | None = None,
    *,
    auxiliary: nn.Linear | None = None,
    auxiliary_rate: float | None = None,
) -> torch.optim.Optimizer:
    """Make an optimiser whose body and head learn at rates of their own.

    name:     rmsprop (centred, as in Mnih et al. 2015), adam or sgd
    network:  on the device to learn on
    eps:      ε of rmsprop and adam; 0.01 and 1e-8 if not given
    auxiliary, auxiliary_rate:  the auxiliary head of gradient TD, and its rate; the head's if not
              given
    """
    groups = parameter_groups(network, body_lr=body_rate, head_lr=head_rate, head="head")
    if auxiliary is not None:
        rate = head_rate if auxiliary_rate is None else auxiliary_rate
        own = {"params": list(auxiliary.parameters()), "frozen": []}
        named = {"label": AUXILIARY, "name": AUXILIARY, "lr": rate, "base_lr": rate}
        groups.append({**groups[-1], **named, **own})
    return optimizer_of(name, groups, eps, next(network.parameters()).device)


def optimizer_of(
    name: str, groups: list[dict[str, Any]], eps: float | None, device: torch.device
) -> torch.optim.Optimizer:
    """Make an optimiser of parameter groups on a device; see `make_optimizer`."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        for group in groups:
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=device)
    epsilon = DEFAULT_EPS[name] if eps is None else eps
    if name == "rmsprop":
        return torch.optim.RMSprop(
            groups, alpha=DECAY, eps=epsilon, centered=True, foreach=True, capturable=on_gpu
        )
    # One pass over the parameters where the device has it; "meta" is no device to compute on.
    fused = on_gpu or device.type == "cpu"
    if name == "adam":
        return torch.optim.Adam(
            groups, eps=epsilon, fused=fused, foreach=not fused, capturable=on_gpu
        )
    # Without this pass, plain steps ask a rate that is a tensor for its number.
    return torch.optim.SGD(groups, fused=on_gpu, foreach=not on_gpu)


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return what an optimiser keeps, as tensors and plain values: its rates as numbers."""
    state = optimizer.state_dict()
    groups = [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take over what `optimizer_state` returned, perhaps on another device.

    The optimiser keeps its own way to compute, and its rates stay the tensors that they are.
    Raises ValueError, as torch does, where it is the state of other parameters.
    """
    own = [dict(group) for group in optimizer.param_groups]
    saved = state["param_groups"]
    if len(own) != len(saved):
        raise ValueError(f"{len(saved)} groups of parameters were saved, not {len(own)}")
    ways = [{way: group[way] for way in _WAYS if way in group} for group in own]
    groups = [{**group, **way} for group, way in zip(saved, ways)]
    optimizer.load_state_dict({**state, "param_groups": groups})
    for group, before in zip(optimizer.param_groups, own):
        rate = float(group["lr"])
        if isinstance(before["lr"], Tensor):
            group["lr"] = before["lr"].fill_(rate)
        else:
            group["lr"] = rate
