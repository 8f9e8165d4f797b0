"""Least-squares TD (Bradtke & Barto 1996): the head as a best response, an assignment.

The statistics A = E[ρφ(φ − γ_tφ')ᵀ] and b₀ = E[ρrφ] are means over a window that forgets, since
the features drift. A window of one batch is LSTD on that batch with the present features.
"""

import torch
from jaxtyping import Float
from torch import Tensor

Statistics = dict[str, Tensor]


def initial_statistics(head: Float[Tensor, " feature"]) -> Statistics:
    """Return statistics that have seen nothing, in the dtype and device of the head."""
    size = len(head)
    return {
        "matrix": head.new_zeros(size, size),
        "vector": head.new_zeros(size),
        "batches": head.new_zeros(()),
    }


def accumulate(
    statistics: Statistics,
    feature: Float[Tensor, "batch feature"],
    next_feature: Float[Tensor, "batch feature"],
    reward: Float[Tensor, " batch"],
    discount: Float[Tensor, " batch"],
    ratio: Float[Tensor, " batch"],
    window: int,
    trace: Float[Tensor, "batch feature"] | None = None,
) -> Statistics:
    """Take in one batch; the weight of an old one decays as if `window` transitions were kept.

    trace: for LSTD(λ), the eligibility trace z of `neural_tdc.rules.traces`, in the place of ρφ

    Until the window is full the statistics are plain means of all that was seen.
    """
    batches = statistics["batches"] + 1
    rate = (1 / batches).clamp(min=min(1.0, len(reward) / window))
    difference = feature - discount[:, None] * next_feature
    weighted = (ratio[:, None] * feature if trace is None else trace) / len(reward)
    return {
        "matrix": torch.lerp(statistics["matrix"], weighted.T @ difference, rate),
        "vector": torch.lerp(statistics["vector"], weighted.T @ reward, rate),
        "batches": batches,
    }


def solution(statistics: Statistics, epsilon: float) -> Float[Tensor, " feature"]:
    """Return θ_LSTD = (A + εI)⁻¹b₀; not finite where the matrix is singular.

    `solve_ex` leaves its error code on the device: the plain `solve` would wait for it.
    """
    matrix = statistics["matrix"]
    regularised = matrix + epsilon * torch.eye(
        len(matrix), dtype=matrix.dtype, device=matrix.device
    )
    return torch.linalg.solve_ex(regularised, statistics["vector"][:, None])[0][:, 0]
