"""Errors below the noise of what they are measured with are counted and named, not silently 0."""

import numpy as np
import torch

from experiments.evaluate_policy.results.noise import noise_lines, noise_summary
from experiments.runs.results.history import History
from neural_tdc.metrics.evaluators import Truth
from neural_tdc.metrics.value_errors import rmsve


def truth(squared_error):
    value = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    return Truth(value[:, None], torch.full_like(value, 1 / 3), value, squared_error)


def measured(known):
    """Return the history of values that are off by 0.1, 0.5 and 0.2 everywhere; run 2 diverged."""
    errors = [
        float(rmsve(known.value + off, known.value, known.weighting, known.squared_error))
        for off in (0.1, 0.5, 0.2)
    ]
    history, none = History(), np.zeros(3)
    values = {"error/rmsve": np.array(errors), "error/rmspbe": none, "norm/body": none}
    history.append(1, values, np.array([False, False, True]))
    return history


def test_errors_whose_square_is_negative_are_counted_and_said():
    known = truth(0.09)
    noise = noise_summary(measured(known), known)
    assert noise == {"truth": 0.3, "rmspbe_floor": None, "below_noise": {"rmsve": 1}}
    assert noise_lines({"td": noise}) == ["below the noise, shown as 0: td RMSVE in 1 run(s)"]


def test_nothing_is_said_of_an_exact_truth_of_no_truth_and_above_the_noise():
    exact, small = truth(0.0), truth(0.001)
    assert noise_summary(measured(exact), exact)["below_noise"] == {}
    assert noise_summary(measured(small), None)["truth"] is None
    above = noise_summary(measured(small), small)
    assert above["below_noise"] == {"rmsve": 0}
    assert noise_lines({"td": above}) == []


def test_the_floor_of_rmspbe_is_the_mean_over_survivors_and_zeros_are_counted():
    history, lost = History(), np.array([False, False, True, False])
    values = {"error/rmspbe": np.array([0.0, 0.5, 0.0, 0.3])}
    values["noise/rmspbe_floor"] = np.array([0.1, 0.2, 7.0, 0.6])
    history.append(1, values, lost)
    noise = noise_summary(history, None)
    assert noise == {"truth": None, "rmspbe_floor": 0.3, "below_noise": {"rmspbe": 1}}
    assert noise_lines({"tdc": noise}) == [
        "an RMSPBE below its noise cannot be distinguished from 0: tdc 0.3000",
        "below the noise, shown as 0: tdc RMSPBE in 1 run(s)",
    ]
