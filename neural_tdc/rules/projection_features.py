"""Frozen feature maps ψ, on which the `generalized` rule's auxiliary vector lives.

The projected Bellman error on the learner's own features is 0 at the best head whatever the
features are. Projected on a second, wider map that does not move, it is not, and its gradient
tells the body something.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_map

from neural_tdc.types import Body, FeatureMap

Psi = dict[str, Tensor]

# `random` and `fourier` are drawn once a run; `observation` is the observation itself, all states
# of a chain where it is one-hot; `snapshot` puts φ, copied every so often, beside the random ones,
# and `present` puts φ itself there, which adds a term to the body's direction.
KINDS = ("random", "fourier", "observation", "snapshot", "present")


def initial_psi(
    kind: str,
    width: int,
    observation: Float[Tensor, "sample *observation"],
    body: Body,
    generator: torch.Generator,
) -> Psi:
    """Draw ψ for one run.

    observation: a sample of observations, which sets the scale: the inputs of the random
        features get a standard deviation of about 2.
    width: number of random features; `observation` has as many as the observation has entries.
    """
    if kind == "observation":
        return {}
    flat = observation.flatten(1)
    scale = 2 / flat.square().sum(1).mean().sqrt().clamp(min=1e-6)
    draw = torch.randn(flat.shape[1], width, generator=generator, dtype=torch.float64)
    shift = torch.rand(width, generator=generator, dtype=torch.float64) * 2 * torch.pi
    psi = {
        "weight": draw.to(flat) * scale,
        "shift": (shift if kind == "fourier" else shift / torch.pi - 1).to(flat),
    }
    if kind == "snapshot":
        psi |= {f"body/{name}": tensor.clone() for name, tensor in body.items()}
        psi["age"] = flat.new_zeros(())
    return psi


def psi_features(
    kind: str,
    psi: Psi,
    features: FeatureMap,
    observation: Float[Tensor, "batch *observation"],
    feature: Float[Tensor, "batch feature"],
) -> Float[Tensor, "batch psi"]:
    """Return ψ at the observations; `feature` is the present φ there."""
    flat = observation.flatten(1)
    if kind == "observation":
        return flat
    inputs = flat @ psi["weight"] + psi["shift"]
    basis = inputs.cos() if kind == "fourier" else inputs.tanh()
    if kind == "snapshot":
        return torch.cat([basis, features(_copied_body(psi), observation)], dim=1)
    if kind == "present":
        return torch.cat([basis, feature], dim=1)
    return basis


def refreshed(psi: Psi, body: Body, period: int) -> Psi:
    """Copy the present body into a `snapshot` every `period` updates."""
    due = psi["age"] >= period
    copied = tree_map(lambda old, new: torch.where(due, new, old), _copied_body(psi), dict(body))
    age = torch.where(due, torch.zeros_like(psi["age"]), psi["age"]) + 1
    return {**psi, **{f"body/{name}": tensor for name, tensor in copied.items()}, "age": age}


def _copied_body(psi: Psi) -> Body:
    return {
        name.removeprefix("body/"): tensor
        for name, tensor in psi.items()
        if name.startswith("body/")
    }
