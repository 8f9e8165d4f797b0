"""The metrics of supervised learning: one record each, in the order of files and figures.

curvature/joint_…    of f(·, θ_k): largest eigenvalue, trace, the trace's standard error
curvature/frozen_…   the same of f(·, θ*(W_k)), the head answering the present body only
curvature/reduced_…  the same of Φ

The metrics of policy evaluation are in `neural_tdc.metrics.registry`.
"""

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

from torch import Tensor

from experiments.train_supervised.build import SupervisedPlan
from neural_tdc.metrics.metric import Metric
from neural_tdc.randomness import generator
from neural_tdc.stackelberg.best_responses import BestResponse
from neural_tdc.stackelberg.curvature import Curvature, Curvatures, curvatures
from neural_tdc.stackelberg.supervised_learner import best_response
from neural_tdc.stackelberg.supervised_metrics import (
    head_tracking_error,
    losses,
    stackelberg_problem,
)
from neural_tdc.types import Parameters


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


class MeasuredNetwork:
    """One network at one measurement; what several metrics need is computed once.

    The arm `limit` is measured with its head answering: its loss is that of Φ.
    """

    def __init__(
        self, plan: SupervisedPlan, network: Parameters, arm: str, seed: int, step: int
    ) -> None:
        self.plan, self.seed, self.step = plan, seed, step
        self._learned = network
        self.network = network
        if arm == "limit":
            head = self.response.head.to(network.head.dtype)
            self.network = network._replace(head=head)

    @cached_property
    def _answered(self) -> tuple[Tensor, Tensor]:
        return self.plan.dataset.train.of(self.seed, self.plan.learning.responder.samples)

    @cached_property
    def response(self) -> BestResponse:
        """Return θ*(W) on the samples of a best response."""
        learning = self.plan.learning
        tolerance = learning.responder.tolerance
        return best_response(learning.objective, self._learned, *self._answered, tolerance)

    @cached_property
    def train(self) -> dict[str, float]:
        """Return loss and accuracy on the first --train-samples samples of training."""
        samples = self.plan.dataset.train.of(self.seed, self.plan.settings.train_samples)
        return losses(self.plan.learning.objective, self.network, *samples)

    @cached_property
    def test(self) -> dict[str, float]:
        """Return loss and accuracy on all samples of the test."""
        samples = self.plan.dataset.test.of(self.seed)
        return losses(self.plan.learning.objective, self.network, *samples)

    def test_rmse(self) -> float:
        """Return the root mean squared error on all samples of the test, in the target's unit."""
        return math.sqrt(2 * self.test["loss"]) * float(self.plan.dataset.unit[self.seed])

    def tracking_error(self) -> float:
        """Return the root mean square of Z(θ − θ*), on the samples of a best response."""
        objective, inputs = self.plan.learning.objective, self._answered[0]
        return head_tracking_error(objective, self._learned, inputs, self.response)

    @cached_property
    def curvature(self) -> Curvatures | None:
        """Return the curvature of all three objectives; None where it is not measured."""
        settings = self.plan.settings
        if self.seed >= settings.curvature_runs or not measures_curvature(self.plan, self.step):
            return None
        # The same probes for all arms of a seed: differences between arms are not those of probes.
        source = generator(settings.seed, "curvature", self.seed, self.step)
        count = settings.curvature_products
        try:
            problem = run_problem(self.plan, self.seed)
            return curvatures(problem, self.network, source, probes=count, products=count)
        except ValueError:
            # Without a ridge Φ may have no Hessian here.
            return None


def measures_curvature(plan: SupervisedPlan, step: int) -> bool:
    """Tell whether the curvature is measured after an update."""
    settings = plan.settings
    every = settings.curvature_every * settings.measure_every
    return bool(every) and (step % every == 0 or step == settings.steps)


# Objectives with their symbols; one without a symbol has no panel.
_OBJECTIVES = {"joint": r"$f(\cdot,\theta_k)$", "frozen": "", "reduced": r"$\Phi$"}


_NUMBERS: dict[str, Callable[[Curvature], float]] = {
    "largest": lambda curvature: curvature.largest.value,
    "trace": lambda curvature: curvature.trace.mean,
    "trace_error": lambda curvature: curvature.trace.standard_error,
}


def _of_curvature(objective: str, name: str, run: MeasuredNetwork) -> float:
    found = run.curvature
    return math.nan if found is None else _NUMBERS[name](getattr(found, objective))


def _curvature_metrics() -> list[Metric]:
    found = []
    for objective, symbol in _OBJECTIVES.items():
        for name in _NUMBERS:
            shown = bool(symbol) and name == "largest"
            found.append(
                Metric(
                    f"curvature/{objective}_{name}",
                    f"{name} of {objective}",
                    partial(_of_curvature, objective, name),
                    needs=("curvature",),
                    unit="",
                    panel=int(shown),
                    title=f"Curvature of {symbol}" if shown else "",
                    label="largest eigenvalue" if shown else "",
                )
            )
    return found


# One record per metric. `needs`: labels, numbers (targets that are), curvature.
SUPERVISED_METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        Metric(
            "train/loss",
            "train loss",
            lambda run: run.train["loss"],
            unit="",
            panel=1,
            title="Training loss",
            label="mean loss",
            columns=("final",),
        ),
        Metric(
            "test/loss",
            "test loss",
            lambda run: run.test["loss"],
            unit="",
            panel=1,
            title="Test loss",
            label="mean loss",
            columns=("final", "auc"),
        ),
        Metric(
            "train/accuracy",
            "train accuracy",
            lambda run: run.train["accuracy"],
            needs=("labels",),
            unit="",
        ),
        Metric(
            "test/accuracy",
            "test accuracy",
            lambda run: run.test["accuracy"],
            needs=("labels",),
            unit="",
            panel=1,
            title="Test accuracy",
            label="fraction correct",
            columns=("final",),
        ),
        Metric(
            "test/rmse",
            "test RMSE",
            MeasuredNetwork.test_rmse,
            needs=("numbers",),
            unit="units of the target",
            panel=1,
            title="Test error",
            label="RMSE",
            columns=("final",),
        ),
        Metric(
            "tracking_error/head",
            "tracking error of θ",
            MeasuredNetwork.tracking_error,
            unit="",
            panel=1,
            title="Tracking error of the head",
            label=r"RMS of $Z(\theta-\theta^*)$",
            columns=("final",),
        ),
        Metric(
            "response/residual",
            "residual of the best response",
            lambda run: run.response.residual,
            unit="",
        ),
        *_curvature_metrics(),
    )
}


def supervised_metrics(plan: SupervisedPlan) -> list[Metric]:
    """Return the metrics that are measured in a run."""
    known = {"numbers" if plan.dataset.classes is None else "labels"}
    known |= {"curvature"} if plan.settings.curvature_every else set()
    return [metric for metric in SUPERVISED_METRICS.values() if known.issuperset(metric.needs)]
