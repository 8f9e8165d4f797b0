"""What is written down at a measurement: one value a seed of every metric, arm by arm."""

import numpy as np
from torch.utils._pytree import tree_map

from experiments.train_supervised.build import SupervisedPlan
from experiments.train_supervised.metrics import MeasuredNetwork, supervised_metrics
from neural_tdc.stackelberg.supervised import AUTOMATIC_ARMS, arm_parameters, arm_rates
from neural_tdc.types import Measurement, Parameters

Values = dict[str, np.ndarray]


def measured(plan: SupervisedPlan, measurement: Measurement) -> dict[str, Values]:
    """Return {arm: {metric: [seed]}}; NaN for a diverged run and for what was not measured.

    The metrics of `experiments.train_supervised.metrics`, and

    step_size/body, …/head      the rates of the last update; none of a head that answers
    gradient/body, …/head       automatic arms: norms of the batch gradients that set these rates

    The residual of an arm `limit` is the worst since the last measurement.
    """
    return {
        arm: _of_arm(plan, measurement, arm, index) for index, arm in enumerate(plan.learning.arms)
    }


def measured_parameters(plan: SupervisedPlan, measurement: Measurement, arm: str) -> Parameters:
    """Return the parameters [seed, …] of an arm on the device where they are measured."""
    device = plan.dataset.train.inputs.device
    learned = arm_parameters(plan.learning, measurement.state, arm)
    moved: Parameters = tree_map(lambda leaf: leaf.to(device), learned)
    return moved


def _of_arm(plan: SupervisedPlan, measurement: Measurement, arm: str, index: int) -> Values:
    diverged = measurement.diverged[index].tolist()
    population = measured_parameters(plan, measurement, arm)
    metrics = supervised_metrics(plan)
    values = {metric.key: np.full(len(diverged), np.nan) for metric in metrics}
    for seed, lost in enumerate(diverged):
        if lost:
            continue
        network = tree_map(lambda leaf, seed=seed: leaf[seed], population)
        run = MeasuredNetwork(plan, network, arm, seed, measurement.step)
        for metric in metrics:
            values[metric.key][seed] = metric.function(run)
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
