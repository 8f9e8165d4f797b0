"""The metrics of policy evaluation: one record each, in the order of tables and figures."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_leaves

from neural_tdc.metrics.metric import NEEDS, Measured, Metric
from neural_tdc.metrics.projected_error import projected_floor, projected_noise
from neural_tdc.metrics.sampled_truth import states_error
from neural_tdc.metrics.value_errors import effective_rank, norm_in_values, solve_symmetric
from neural_tdc.types import Parameters


def _rmspbe(run: Measured) -> Float[Tensor, ""]:
    """Return the root of the mean squared projected Bellman error, √(bᵀC⁺b).

    From held-out transitions without the bias of the plug-in; 0 where its square is negative.
    """
    b = run.expected_update
    squared = b @ solve_symmetric(run.spectrum, b)
    if run.held_out is not None:
        squared = squared - projected_noise(run.spectrum, run.update_covariance)
    return squared.clamp(min=0).sqrt()


def _rmstde(run: Measured) -> Float[Tensor, ""]:
    """Return the root mean square of δ over held-out transitions, weighted by the ratio ρ."""
    assert run.held_out is not None
    sample, td_error, _ = run.held_out
    return (sample.weight * sample.ratio * td_error.square()).sum().sqrt()


def _head_tracking_error(run: Measured) -> Float[Tensor, ""]:
    """Return ‖Φ(θ − θ_TD)‖_d."""
    return norm_in_values(run.moments, run.parameters.head - run.td_fixed_point)


def _auxiliary_tracking_error(run: Measured) -> Float[Tensor, ""]:
    """Return ‖Φ(ω − ω*)‖_d."""
    assert run.auxiliary is not None
    return norm_in_values(run.moments, run.auxiliary.vector - run.auxiliary_solution)


def _norm(part: Any, like: Parameters) -> Float[Tensor, ""]:
    leaves = [leaf.square().sum() for leaf in tree_leaves(part)]
    zero = torch.zeros_like(like.head[0])
    return (torch.stack(leaves).sum() if leaves else zero).sqrt()


# The truth is exact, of all states, wherever the moments are.
SAMPLED_TRUTH = ("truth", "held_out")

# One record per metric.
METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        Metric(
            "error/rmsve",
            "RMSVE",
            lambda run: run.value_error(run.parameters.head),
            needs=("truth",),
            panel=1,
            title="Error of the values",
            label="RMSVE",
            columns=("final", "auc"),
        ),
        Metric(
            "error/rmsqe",
            "RMSQE",
            lambda run: run.action_value_error(run.parameters.head),
            needs=("action_truth",),
            columns=("final",),
        ),
        Metric(
            "error/rmstde",
            "RMSTDE",
            _rmstde,
            needs=("held_out",),
            panel=1,
            title="Temporal-difference error",
            label="RMSTDE",
            columns=("final", "auc"),
            replaces="error/rmsve",
        ),
        Metric(
            "error/rmspbe",
            "RMSPBE",
            _rmspbe,
            panel=1,
            title="Projected Bellman error",
            label="RMSPBE",
            columns=("final",),
        ),
        Metric(
            "error/lstd_rmsve",
            "LSTD-RMSVE",
            lambda run: run.value_error(run.td_fixed_point),
            needs=("truth",),
            panel=1,
            title="Error of LSTD on the features",
            label="LSTD-RMSVE",
            columns=("final",),
        ),
        Metric(
            "error/best_linear_rmsve",
            "best-linear RMSVE",
            lambda run: run.best_linear_error,
            needs=("truth",),
        ),
        Metric(
            "noise/rmspbe_floor",
            "noise of RMSPBE",
            lambda run: projected_floor(run.spectrum, run.update_covariance),
            needs=("held_out",),
        ),
        Metric(
            "noise/rmsve_states",
            "standard error of RMSVE over the truth's states",
            lambda run: run.states_error(run.parameters.head),
            needs=SAMPLED_TRUTH,
        ),
        Metric(
            "noise/lstd_rmsve_states",
            "the same of LSTD-RMSVE",
            lambda run: run.states_error(run.td_fixed_point),
            needs=SAMPLED_TRUTH,
        ),
        Metric(
            "noise/best_linear_rmsve_states",
            "the same of best-linear RMSVE",
            lambda run: states_error(
                run.best_linear_squares, run.truth.weighting, run.truth.squared_error
            ),
            needs=SAMPLED_TRUTH,
        ),
        Metric(
            "tracking_error/head",
            "tracking error of θ",
            _head_tracking_error,
            panel=2,
            title="Tracking error of the head",
            label=r"$\|\Phi(\theta-\theta^*)\|_d$",
        ),
        Metric(
            "tracking_error/auxiliary",
            "tracking error of ω",
            _auxiliary_tracking_error,
            needs=("auxiliary",),
            panel=2,
            title=r"Tracking error of $\omega$ (dashed: $\|\Phi\omega^*\|_d$)",
            label=r"$\|\Phi(\omega-\omega^*)\|_d$",
            dashed="tracking_error/auxiliary_size",
        ),
        Metric(
            "tracking_error/auxiliary_size",
            "size of ω*",
            lambda run: norm_in_values(run.moments, run.auxiliary_solution),
            needs=("auxiliary",),
        ),
        Metric(
            "features/smallest_eigenvalue",
            "smallest eigenvalue of C",
            lambda run: run.spectrum.values[0].clamp(min=0),
            unit="squared units of the features",
        ),
        Metric(
            "features/effective_rank",
            "effective rank",
            lambda run: effective_rank(run.spectrum.values),
            unit="features",
            panel=2,
            title="Rank of the features",
            label="effective rank",
            linear=True,
        ),
        Metric(
            "norm/body",
            "norm of W",
            lambda run: _norm(run.parameters.body, run.parameters),
            unit="units of the parameters",
        ),
        Metric(
            "norm/head",
            "norm of θ",
            lambda run: _norm(run.parameters.head, run.parameters),
            unit="units of the parameters",
        ),
        Metric(
            "norm/auxiliary",
            "norm of ω",
            lambda run: _norm(run.parameters.auxiliary, run.parameters),
            unit="units of the parameters",
        ),
    )
}


def measure(run: Measured) -> dict[str, Tensor]:
    """Return every metric that can be measured of a run, by its key."""
    known = {part for part in NEEDS if getattr(run, part) is not None}
    return {key: metric.function(run) for key, metric in METRICS.items() if not metric.lacks(known)}


def selectable_metrics() -> list[Metric]:
    """Return the metrics that step sizes can be selected by: less is better."""
    return [metric for metric in METRICS.values() if metric.key.startswith("error/")]


def shown_metrics(measured: Iterable[str], metrics: Mapping[str, Metric] = METRICS) -> list[Metric]:
    """Return the metrics to show of those measured, by key; one that only replaces is left out."""
    keys = set(measured)
    return [
        metric for metric in metrics.values() if metric.key in keys and metric.replaces not in keys
    ]
