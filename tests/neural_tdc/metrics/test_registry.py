"""The metrics are measured one by one from shared moments, and say what they need."""

import pytest
import torch
from torch.utils._pytree import tree_map

from neural_tdc.metrics import value_errors as errors
from neural_tdc.metrics.metric import (
    NEEDS,
    AuxiliaryEstimate,
    Measured,
    Metric,
    TrueValue,
    held_out_errors,
)
from neural_tdc.metrics.projected_error import projected_floor, projected_noise, update_covariance
from neural_tdc.metrics.registry import METRICS, measure, selectable_metrics, shown_metrics
from neural_tdc.metrics.sampled_truth import best_linear_squares, states_error
from neural_tdc.metrics.samples import Sample
from neural_tdc.metrics.value_errors import Moments
from neural_tdc.types import Parameters

STATES, D, RUNS = 7, 4, 3
F64 = torch.float64
OF_STATES = {f"noise/{error}_states" for error in ("rmsve", "lstd_rmsve", "best_linear_rmsve")}
OF_TRUTH = {"error/rmsve", "error/lstd_rmsve", "error/best_linear_rmsve"} | OF_STATES
OF_HELD_OUT = {"error/rmstde", "noise/rmspbe_floor"} | OF_STATES
OF_OMEGA = {"tracking_error/auxiliary", "tracking_error/auxiliary_size"}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def chain():
    """Return the transition matrix and the weighting of the chain that all runs share."""
    source = torch.Generator().manual_seed(0)
    rows = torch.rand(STATES, STATES + 1, generator=source, dtype=F64)
    weighting = torch.rand(STATES, generator=source, dtype=F64)
    return (rows / rows.sum(1, keepdim=True))[:, :-1], weighting / weighting.sum()


def random_parts(seed=0, d=D):
    """Return parameters, moments, truth, held-out transitions and auxiliary vector of a run.

    Runs differ in their parameters and features, and share the chain and its rewards.
    """
    transition, weighting = chain()
    features, head, omega = random(STATES + 2, d, seed=seed + 1).split([STATES, 1, 1])
    head, omega = head[0], omega[0]
    weighted = features.T * weighting
    following = 0.9 * transition @ features
    reward = random(STATES, seed=3)
    moments = Moments(weighted @ (features - following), weighted @ reward, weighted @ features)
    body = {"weight": random(2, 3, seed=seed + 4), "bias": random(3, seed=seed + 5)}
    unused = random(STATES, 0)
    equal = torch.full_like(reward, 1 / STATES)
    seen = Sample(unused, reward, reward.abs().clamp(max=1), weighting, equal, on_policy=False)
    return (
        Parameters(body, head, omega),
        moments,
        TrueValue(features, weighting, random(STATES, seed=9), 0.01),
        held_out_errors(seen, features, features @ head, following @ head),
        AuxiliaryEstimate(omega, 0.3),
    )


def measured(seed=0, d=D, **left_out):
    parameters, moments, truth, held_out, auxiliary = random_parts(seed, d)
    parts = {"truth": truth, "held_out": held_out, "auxiliary": auxiliary}
    # As if states were pairs of state and action.
    parts["action_truth"] = truth._replace(value=truth.value + 1)
    return measure(Measured(parameters, moments, **{**parts, **left_out}))


def test_every_metric_is_its_formula_written_out():
    parameters, moments, truth, held_out, (omega, epsilon) = random_parts()
    features, weighting, value, squared = truth
    following = 0.9 * chain()[0] @ features

    def error(candidate):
        return errors.rmsve(features @ candidate, value, weighting, squared)

    def over_states(candidate):
        return states_error((features @ candidate - value) ** 2, weighting, squared)

    squares = best_linear_squares(features, weighting, value)
    fixed_point = errors.td_fixed_point(moments)
    solution = errors.auxiliary_solution(moments, parameters.head, epsilon)
    _, reward, discount, ratio, *_ = held_out.sample
    td_error = reward + discount * (following @ parameters.head) - features @ parameters.head
    eigenvalues, of = torch.linalg.eigvalsh(moments.C), errors.spectrum(moments.C)
    S = update_covariance(features, td_error, ratio, held_out.sample.weight)
    squared_rmspbe = errors.mspbe(moments, parameters.head) - projected_noise(of, S)
    expected = {
        "error/rmsve": error(parameters.head),
        "error/rmsqe": errors.rmsve(features @ parameters.head, value + 1, weighting, squared),
        "error/rmstde": (ratio * td_error**2).mean().sqrt(),
        "error/rmspbe": squared_rmspbe.sqrt(),
        "error/lstd_rmsve": error(fixed_point),
        "error/best_linear_rmsve": ((weighting * squares).sum() - squared).sqrt(),
        "noise/rmspbe_floor": projected_floor(of, S),
        "noise/rmsve_states": over_states(parameters.head),
        "noise/lstd_rmsve_states": over_states(fixed_point),
        "noise/best_linear_rmsve_states": states_error(squares, weighting, squared),
        "tracking_error/head": errors.norm_in_values(moments, parameters.head - fixed_point),
        "tracking_error/auxiliary": errors.norm_in_values(moments, omega - solution),
        "tracking_error/auxiliary_size": errors.norm_in_values(moments, solution),
        "features/smallest_eigenvalue": eigenvalues[0],
        "features/effective_rank": errors.effective_rank(eigenvalues),
        "norm/body": torch.cat([leaf.flatten() for leaf in parameters.body.values()]).norm(),
        "norm/head": parameters.head.norm(),
        "norm/auxiliary": omega.norm(),
    }
    found = measured()
    assert list(found) == list(METRICS) == list(expected)
    for name, number in expected.items():
        torch.testing.assert_close(found[name], number, msg=name)
        assert number > 0, name


def test_the_smallest_eigenvalue_by_hand_and_never_negative():
    nothing = Parameters({}, torch.zeros(2, dtype=F64), torch.zeros(0, dtype=F64))

    def found(C):
        none = torch.zeros(2, dtype=F64)
        return measure(Measured(nothing, Moments(C, none, C)))["features/smallest_eigenvalue"]

    assert found(torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=F64)) == pytest.approx(1.0)
    column = random(2, 1)
    assert 0 <= found(column @ column.T) < 1e-14


@pytest.mark.parametrize(
    ("part", "left_out"),
    [
        ("truth", OF_TRUTH),
        ("action_truth", {"error/rmsqe"}),
        ("auxiliary", OF_OMEGA),
        ("held_out", OF_HELD_OUT),
    ],
)
def test_what_needs_a_part_that_is_missing_is_left_out_and_the_rest_is_the_same(part, left_out):
    whole, found = measured(), measured(**{part: None})
    assert whole.keys() - found.keys() == left_out
    # Without held-out transitions moments and truth are exact: there is no bias to subtract.
    other = {"error/rmspbe"} if part == "held_out" else set()
    if part == "held_out":
        assert found.pop("error/best_linear_rmsve") < whole["error/best_linear_rmsve"]
    assert all(torch.equal(found[key], whole[key]) for key in found.keys() - other)
    assert all(found[key] > whole[key] for key in other)
    lacking = {key for key, metric in METRICS.items() if metric.lacks(NEEDS.keys() - {part})}
    assert lacking == left_out
    assert all(METRICS[key].lacks(NEEDS.keys() - {part}) == [NEEDS[part]] for key in left_out)


@pytest.mark.parametrize("d", [4, 9], ids=["regular", "more features than states"])
def test_a_batch_of_runs_is_measured_like_each_run_alone(d):
    runs = [random_parts(10 * run, d) for run in range(RUNS)]
    alone = [measured(10 * run, d) for run in range(RUNS)]
    stacked = tree_map(lambda *leaves: torch.stack(leaves), *[run[:2] for run in runs])
    of_runs = [torch.stack([run[2].features for run in runs])] * 2
    following = 0.9 * chain()[0] @ of_runs[0]
    _, _, truth, (sample, *_), _ = runs[0]

    def one(both, at_truth, feature, next_feature):
        return measure(
            Measured(
                *both,
                truth=truth._replace(features=at_truth),
                held_out=held_out_errors(
                    sample, feature, feature @ both[0].head, next_feature @ both[0].head
                ),
                auxiliary=AuxiliaryEstimate(both[0].auxiliary, 0.3),
            )
        )

    batched = torch.vmap(one)(stacked, *of_runs, following)
    for name, numbers in batched.items():
        assert numbers.shape == (RUNS,)
        expected = torch.stack([of_run[name] for of_run in alone])
        # Noise in a singular matrix (eigenvalues near 1e-17) reaches the effective rank as 1e-8.
        torch.testing.assert_close(numbers, expected, atol=1e-6, rtol=1e-9, msg=name)


def test_each_decomposition_is_computed_once(monkeypatch):
    calls = []
    for name in ("eigh", "svd"):
        whole = getattr(torch.linalg, name)
        monkeypatch.setattr(
            torch.linalg, name, lambda x, name=name, whole=whole: (calls.append(name), whole(x))[1]
        )
    measured()
    # Of C, of A, and of the features where the truth is known.
    assert sorted(calls) == ["eigh", "eigh", "svd"]
    calls.clear()
    measured(truth=None)
    assert sorted(calls) == ["eigh", "svd"]


def test_a_metric_that_replaces_another_is_shown_only_without_it():
    def keys(*measured):
        return [metric.key for metric in shown_metrics(measured)]

    assert keys("norm/head", "error/rmstde", "error/rmsve") == ["error/rmsve", "norm/head"]
    assert keys("norm/head", "error/rmstde") == ["error/rmstde", "norm/head"]


def test_step_sizes_can_be_selected_by_errors_alone():
    errors = ("rmsve", "rmsqe", "rmstde", "rmspbe", "lstd_rmsve", "best_linear_rmsve")
    assert [metric.key for metric in selectable_metrics()] == [f"error/{name}" for name in errors]


def test_a_new_metric_is_a_record_in_the_registry(monkeypatch):
    largest = Metric("norm/largest", "largest θ", lambda run: run.parameters.head.abs().amax())
    monkeypatch.setitem(METRICS, largest.key, largest)
    assert measured()["norm/largest"] == random_parts()[0].head.abs().amax()


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_record_is_complete(metric):
    assert metric.symbol
    assert metric.unit
    assert {metric.dashed, metric.replaces} <= {None, *METRICS}
    assert bool(metric.panel) is bool(metric.title and metric.label)
    assert set(metric.columns) <= {"final", "auc"}
    assert set(metric.needs) <= set(NEEDS)
