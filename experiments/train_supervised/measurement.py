"""What is written down at a measurement: one value a seed of every metric, arm by arm."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from experiments.train_supervised.build import SupervisedPlan
from neural_tdc.randomness import generator
from neural_tdc.stackelberg.curvature import Curvature, Curvatures, curvatures
from neural_tdc.stackelberg.supervised import AUTOMATIC_ARMS, arm_parameters, arm_rates
from neural_tdc.stackelberg.supervised_learner import best_response
from neural_tdc.stackelberg.supervised_metrics import (
    head_tracking_error,
    losses,
    stackelberg_problem,
)
from neural_tdc.types import Measurement, Parameters

CURVATURE = ("largest", "trace", "trace_error")
CURVATURES = tuple(f"curvature/{of}_{what}" for of in Curvatures._fields for what in CURVATURE)
Values = dict[str, np.ndarray]


def measured(plan: SupervisedPlan, measurement: Measurement) -> dict[str, Values]:
    """Return {arm: {metric: [seed]}}; NaN for a diverged run and for what was not measured.

    train/loss test/loss        mean loss without the ridge, on --train-samples and all test samples
    train/accuracy test/accuracy, or test/rmse in the target's own unit
    tracking_error/head         root mean square of Z(θ − θ*), on the samples of a best response
    step_size/body, …/head      the rates of the last update; none of a head that answers
    gradient/body, …/head       automatic arms: norms of the batch gradients that set these rates
    response/residual           how far from solved the answers were, the worst since the last
    curvature/joint_…           of f(·, θ_k): largest eigenvalue, trace, the trace's standard error
    curvature/frozen_…          the same of f(·, θ*(W_k)), the head answering the present body only
    curvature/reduced_…         the same of Φ

    The arm `limit` is measured with its head answering: its loss is Φ's.
    """
    return {
        arm: _of_arm(plan, measurement, arm, index) for index, arm in enumerate(plan.learning.arms)
    }


def measures_curvature(plan: SupervisedPlan, step: int) -> bool:
    """Tell whether the curvature is measured after an update."""
    settings = plan.settings
    every = settings.curvature_every * settings.measure_every
    return bool(every) and (step % every == 0 or step == settings.steps)


def _of_arm(plan: SupervisedPlan, measurement: Measurement, arm: str, index: int) -> Values:
    diverged = measurement.diverged[index].tolist()
    population = arm_parameters(plan.learning, measurement.state, arm)
    rows: list[dict[str, float]] = []
    for seed, lost in enumerate(diverged):
        network = tree_map(lambda leaf, seed=seed: leaf[seed], population)
        rows.append({} if lost else _of_run(plan, network, arm, seed, measurement.step))
    names = dict.fromkeys([*_names(plan), *(name for row in rows for name in row)])
    values = {name: np.array([row.get(name, math.nan) for row in rows]) for name in names}
    if arm == "limit":
        worst = float(measurement.values["response/residual"].max())
        values["response/residual"] = np.maximum(values["response/residual"], worst)
    rates = arm_rates(plan.learning, measurement.state, arm, measurement.step - 1)
    for part, rate in rates._asdict().items():
        values[f"step_size/{part}"] = rate.cpu().numpy()
    if arm in AUTOMATIC_ARMS:
        place = plan.learning.automatic.index(arm)
        for part, norm in measurement.state.automatic.norms._asdict().items():
            own = norm.chunk(len(plan.learning.automatic))[place]
            values[f"gradient/{part}"] = own.double().cpu().numpy()
    return values


def _names(plan: SupervisedPlan) -> list[str]:
    quality = ["test/rmse"] if plan.dataset.classes is None else ["train/accuracy", "test/accuracy"]
    names = ["train/loss", "test/loss", *quality, "tracking_error/head", "response/residual"]
    return [*names, *(CURVATURES if plan.settings.curvature_every else ())]


def _of_run(
    plan: SupervisedPlan, network: Parameters, arm: str, seed: int, step: int
) -> dict[str, float]:
    objective, dataset, responder = plan.learning.objective, plan.dataset, plan.learning.responder
    answered = dataset.train.of(seed, responder.samples)
    response = best_response(objective, network, *answered, responder.tolerance)
    row = {
        "tracking_error/head": head_tracking_error(objective, network, answered[0], response),
        "response/residual": response.residual,
    }
    if arm == "limit":
        network = network._replace(head=response.head.to(network.head.dtype))
    train = dataset.train.of(seed, plan.settings.train_samples)
    for part, samples in (("train", train), ("test", dataset.test.of(seed))):
        for name, value in losses(objective, network, *samples).items():
            row[f"{part}/{name}"] = value
    if dataset.classes is None:
        row["test/rmse"] = math.sqrt(2 * row["test/loss"]) * float(dataset.unit[seed])
    if seed < plan.settings.curvature_runs and measures_curvature(plan, step):
        row |= _curvature(plan, network, seed, step)
    return row


def run_problem(plan: SupervisedPlan, seed: int) -> Any:
    """Return f and θ* of one seed on the samples for curvature, in float64."""
    inputs, target = plan.dataset.train.of(seed, plan.settings.curvature_samples)
    classes = plan.dataset.classes
    return stackelberg_problem(
        plan.learning.objective,
        inputs.double(),
        target.double() if classes is None else target,
        classes,
        tolerance=1e-8,
    )


def _curvature(plan: SupervisedPlan, network: Parameters, seed: int, step: int) -> dict[str, float]:
    # The same probes for all arms of a seed: differences between arms are not those of probes.
    source = generator(plan.settings.seed, "curvature", seed, step)
    count = plan.settings.curvature_products
    try:
        found = curvatures(run_problem(plan, seed), network, source, probes=count, products=count)
    except ValueError:
        # Without a ridge Φ may have no Hessian here.
        return {}
    return dict(zip(CURVATURES, [number for each in found for number in _numbers(each)]))


def _numbers(curvature: Curvature) -> tuple[float, float, float]:
    return curvature.largest.value, curvature.trace.mean, curvature.trace.standard_error


def finite_mean(values: np.ndarray | Tensor) -> float | None:
    """Return the mean of what is finite, None where nothing is."""
    present = np.asarray(values.numpy() if isinstance(values, torch.Tensor) else values)
    present = present[np.isfinite(present)]
    return float(present.mean()) if present.size else None
