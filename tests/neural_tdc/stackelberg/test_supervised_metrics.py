"""What is measured of a network: losses, accuracy, the head's lag, curvature."""

import math

import pytest
import torch

from neural_tdc.networks.activations import CLOSED_FORM_ACTIVATIONS
from neural_tdc.networks.mlp_population import (
    CROSS_ENTROPY,
    SQUARED,
    Layer,
    NetworkObjective,
    initial_networks,
)
from neural_tdc.randomness import generator
from neural_tdc.stackelberg import supervised_metrics as supervised_measures
from neural_tdc.stackelberg.best_responses import BestResponse
from neural_tdc.stackelberg.curvature import curvatures
from neural_tdc.stackelberg.hessians import dense, hessian_operator, reduced_hessian_operator
from neural_tdc.stackelberg.supervised_metrics import (
    head_tracking_error,
    losses,
    stackelberg_problem,
)
from neural_tdc.types import Parameters

F64 = torch.float64
REGRESSION = NetworkObjective(SQUARED, CLOSED_FORM_ACTIVATIONS["relu"], 0.1)
CLASSES = NetworkObjective(CROSS_ENTROPY, CLOSED_FORM_ACTIVATIONS["tanh"], 0.1)


def identity(head):
    """Return a network whose features are its two positive inputs."""
    layer = Layer(torch.eye(2, dtype=F64), torch.zeros(2, dtype=F64))
    return Parameters((layer,), torch.tensor(head, dtype=F64), {})


INPUTS = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]], dtype=F64)


def test_the_loss_leaves_the_ridge_out_and_does_not_depend_on_chunks(monkeypatch):
    network = identity([[1.0], [-1.0]])
    target = torch.tensor([[0.0], [1.0], [-1.0]], dtype=F64)
    # Predictions −1, 3 and −1: errors −1, 2 and 0.
    assert losses(REGRESSION, network, INPUTS, target) == {"loss": pytest.approx(5 / 6)}
    monkeypatch.setattr(supervised_measures, "CHUNK", 2)
    assert losses(REGRESSION, network, INPUTS, target) == {"loss": pytest.approx(5 / 6)}


def test_accuracy_is_the_fraction_of_labels_with_the_largest_score():
    objective = CLASSES._replace(activation=CLOSED_FORM_ACTIVATIONS["relu"])
    found = losses(objective, identity([[1.0, 0.0], [0.0, 1.0]]), INPUTS, torch.tensor([1, 0, 0]))
    assert found["accuracy"] == pytest.approx(2 / 3)
    expected = (math.log1p(math.exp(-1)) + math.log1p(math.exp(-3)) + math.log1p(math.e)) / 3
    assert found["loss"] == pytest.approx(expected, abs=1e-14)


def test_the_lag_is_in_units_of_the_prediction():
    response = BestResponse(torch.tensor([[0.0], [-1.0]], dtype=F64), 0.0, 0)
    # The heads differ by (1, 0): predictions by 1, 3 and 0.
    found = head_tracking_error(REGRESSION, identity([[1.0], [-1.0]]), INPUTS, response)
    assert found == pytest.approx(math.sqrt(10 / 3))


def test_one_vector_added_to_all_classes_is_no_lag():
    objective = CLASSES._replace(activation=CLOSED_FORM_ACTIVATIONS["relu"])
    head = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]], dtype=F64)
    shifted = BestResponse(head + torch.tensor([[5.0], [-2.0]], dtype=F64), 0.0, 0)
    assert head_tracking_error(objective, identity(head.tolist()), INPUTS, shifted) < 1e-14
    other = BestResponse(head + torch.tensor([[1.0, 0.0, 0.0]] * 2, dtype=F64), 0.0, 0)
    assert head_tracking_error(objective, identity(head.tolist()), INPUTS, other) > 0.5


@pytest.mark.parametrize("classes", [None, 4])
def test_curvatures_are_those_of_the_dense_hessians(classes):
    source = generator(0, "samples")
    inputs = torch.randn(9, 3, generator=source, dtype=F64)
    sizes = (3, 4, classes or 1)
    network = Parameters(*(part for part in initial_networks(sizes, 0, 1, F64)))
    network = Parameters(
        tuple(Layer(*(leaf[0] for leaf in layer)) for layer in network.body), network.head[0], {}
    )
    if classes is None:
        target = torch.randn(9, 1, generator=source, dtype=F64)
        objective = REGRESSION._replace(activation=CLOSED_FORM_ACTIVATIONS["tanh"])
    else:
        target, objective = torch.randint(classes, (9,), generator=source), CLASSES
    problem = stackelberg_problem(objective, inputs, target, classes, 1e-10)
    joint, frozen, reduced = curvatures(
        problem, network, generator(0, "probes"), probes=200, products=50, tolerance=1e-8
    )
    best = problem.best_response(network.body)
    for found, operator in (
        (frozen, hessian_operator(lambda w: problem.objective(w, best), network.body)),
        (joint, hessian_operator(lambda w: problem.objective(w, network.head), network.body)),
        (reduced, reduced_hessian_operator(problem, network.body)),
    ):
        matrix = dense(operator)
        assert found.largest.value == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]))
        error = abs(found.trace.mean - float(matrix.trace()))
        assert error < 4 * found.trace.standard_error + 1e-12
    assert joint.largest.value != pytest.approx(reduced.largest.value, rel=0.05)
    # ∇²Φ = f_WW − f_Wθ f_θθ⁻¹ f_θW ⪯ f_WW at θ*.
    assert reduced.largest.value < frozen.largest.value
