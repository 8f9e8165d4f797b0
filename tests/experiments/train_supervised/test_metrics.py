"""The registry of supervised metrics: what is measured, and what files, tables and figures show."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_map

from experiments.runs.results.history import History
from experiments.runs.results.panels import metric_panels
from experiments.runs.results.report import metric_columns
from experiments.train_supervised.build import supervised_plan
from experiments.train_supervised.metrics import (
    SUPERVISED_METRICS,
    MeasuredNetwork,
    supervised_metrics,
)
from experiments.train_supervised.settings import read_supervised_settings
from neural_tdc.metrics.metric import Metric
from neural_tdc.networks.mlp_population import features
from neural_tdc.stackelberg.supervised import arm_parameters

LINE = "--task friedman --arm split --runs 2 --hidden 4 --steps 9 --compile off"


@pytest.fixture(scope="module")
def plan():
    return supervised_plan(read_supervised_settings(LINE.split()))


def history(**values):
    found = History()
    names = {name.replace("__", "/"): np.array(value) for name, value in values.items()}
    found.append(1, names, np.zeros(2, dtype=bool))
    return found


def test_a_regression_measures_no_accuracy_and_labels_no_rmse(plan):
    keys = [metric.key for metric in supervised_metrics(plan)]
    assert "test/rmse" in keys
    assert not [key for key in keys if key.endswith("accuracy")]
    classes = plan._replace(dataset=plan.dataset._replace(classes=3))
    other = [metric.key for metric in supervised_metrics(classes)]
    assert set(other) == set(keys) - {"test/rmse"} | {"train/accuracy", "test/accuracy"}
    without = plan._replace(settings=replace(plan.settings, curvature_every=0))
    assert not [m.key for m in supervised_metrics(without) if m.key.startswith("curvature/")]


def test_the_test_error_is_that_of_the_prediction_in_the_target_s_unit(plan):
    population = arm_parameters(plan.learning, plan.state, "split")
    network = tree_map(lambda leaf: leaf[1], population)
    network = network._replace(head=torch.linspace(-1, 2, 4)[:, None])
    run = MeasuredNetwork(plan, network, "split", 1, 3)
    inputs, target = plan.dataset.test.of(1)
    activation = plan.learning.objective.activation
    prediction = features(network.body, inputs, activation) @ network.head
    error = (prediction - target).double().square().mean().sqrt() * float(plan.dataset.unit[1])
    assert run.test_rmse() == pytest.approx(float(error), rel=1e-6)


def test_tables_and_figures_follow_the_registry():
    found = history(train__loss=[1.0, 2.0], test__rmse=[3.0, 4.0], test__loss=[np.nan, np.nan])
    assert [panel.label for panel in metric_panels(SUPERVISED_METRICS.values(), {"a": found})] == [
        "mean loss",
        "RMSE (units of the target)",
    ]
    assert metric_columns({"test_loss", "test_rmse"}, SUPERVISED_METRICS) == [
        ("test loss", "test_loss", "final"),
        ("test RMSE", "test_rmse", "final"),
        ("AUC test loss", "test_loss", "auc"),
    ]
    own = Metric("own/number", "number", len, unit="apples", panel=1, label="count")
    (panel,) = metric_panels([own], {"a": history(own__number=[5.0, 6.0])})
    assert panel.label == "count (apples)"
