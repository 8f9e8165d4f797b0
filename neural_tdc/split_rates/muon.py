"""Muon for the matrices of the body, AdamW for everything else, at split learning rates."""

from collections.abc import Mapping
from typing import Any

from torch import nn, optim

from neural_tdc.split_rates.assembly import is_body
from neural_tdc.split_rates.groups import parameter_groups


def muon_adamw(
    module: nn.Module,
    *,
    muon: Mapping[str, Any] | None = None,
    adamw: Mapping[str, Any] | None = None,
    **groups: Any,
) -> tuple[optim.Muon, optim.AdamW]:
    """Make a Muon optimiser for the body's matrices and an AdamW optimiser for all the rest.

    The rest is the head, embeddings, biases, normalisations and convolutions: `torch.optim.Muon`
    takes matrices only, and is meant for hidden layers. Muon's update is scaled to the size of
    AdamW's (`adjust_lr_fn="match_rms_adamw"`), so that one ratio of rates holds for both.

    muon, adamw: keywords of either optimiser, such as {"momentum": 0.9} or {"betas": (0.9, 0.99)}
    groups:      keywords of `parameter_groups`; weight_decay is 0.1 if not given

    Call `step()` and `zero_grad()` of both, and give each a schedule of its own.
    Raises ValueError as `parameter_groups`, and for a body without a matrix to train.
    Source: https://kellerjordan.github.io/posts/muon/ (Muon), https://arxiv.org/abs/2502.16982
    (the scale).
    """
    matrices: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    embedded = {
        id(layer.weight)
        for layer in module.modules()
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag)
    }
    for group in parameter_groups(module, **{"weight_decay": 0.1, **groups}):
        in_body = is_body(group["label"])
        chosen = [
            parameter
            for parameter in group["params"]
            if in_body and parameter.ndim == 2 and id(parameter) not in embedded
        ]
        taken = {id(parameter) for parameter in chosen}
        if chosen:
            matrices.append({**group, "params": chosen, "frozen": []})
        left = [parameter for parameter in group["params"] if id(parameter) not in taken]
        if left or not chosen:
            others.append({**group, "params": left})
    if not matrices:
        raise ValueError(f"the body of {type(module).__name__} has no matrix for Muon to train")
    return (
        optim.Muon(matrices, **{"adjust_lr_fn": "match_rms_adamw", **(muon or {})}),
        optim.AdamW(others, **(adamw or {})),
    )
