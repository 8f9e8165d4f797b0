"""Projections Π on the sets that keep θ and W bounded, named `none`, `box:R` and `ball:R`."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

Projection = Callable[[Any], Any]


def project_on_box(tensors: Any, radius: float) -> Any:
    """Clip every component of a tree of tensors to [−radius, radius]."""
    return tree_map(lambda x: x.clamp(-radius, radius), tensors)


def project_on_ball(tensors: Any, radius: float) -> Any:
    """Shrink a tree of tensors to Euclidean norm `radius`, all its leaves taken as one vector."""
    leaves = tree_leaves(tensors)
    if not leaves:
        return tensors
    norm = torch.stack([x.square().sum() for x in leaves]).sum().sqrt()
    factor = radius / norm.clamp(min=radius)
    return tree_map(lambda x: x * factor, tensors)


def projection(name: str) -> Projection:
    """Return the projection of a named set: `none`, `box:R` or `ball:R` with a radius R > 0.

    Raises ValueError for another name or a radius that is not positive and finite.
    """
    if name == "none":
        return lambda tensors: tensors
    kind, _, number = name.partition(":")
    kinds: dict[str, Callable[[Any, float], Any]] = {
        "box": project_on_box,
        "ball": project_on_ball,
    }
    try:
        radius = float(number)
    except ValueError:
        radius = math.nan
    if kind not in kinds or not (0 < radius < math.inf):
        raise ValueError(f"constraint {name!r} is not none, box:R or ball:R with a radius R > 0")
    return lambda tensors: kinds[kind](tensors, radius)
