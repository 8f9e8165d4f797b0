"""Runs that diverge: they are counted, stay lost, and leave the others alone."""

import torch

from neural_tdc.rules.rule import Rule
from neural_tdc.types import Parameters, StepSizes
from tests.neural_tdc.learning.populations import (
    CALM,
    F64,
    history,
    neural,
    of_runs,
    of_state,
    same_bits,
    sizes_of,
)


def test_a_run_that_diverges_leaves_the_bits_of_the_others_alone():
    setting = neural()
    algorithm, state, seen, evaluator = setting
    wild = history(setting, sizes_of(0.05, 1e9, 0.02), steps=24, every=8)[-1]
    assert wild.diverged.tolist() == [False, True, False]
    with_a_calm_neighbour = history(setting, sizes_of(*CALM), steps=24, every=8)[-1]
    assert not with_a_calm_neighbour.diverged.any()
    others = [0, 2]
    without_it = history(
        (algorithm, of_state(state, others), of_runs(seen, others), evaluator),
        sizes_of(0.05, 0.02),
        steps=24,
        every=8,
    )[-1]
    survivors = of_state(wild.state, others)
    assert same_bits(survivors, of_state(with_a_calm_neighbour.state, others))
    assert same_bits(survivors, without_it.state)
    for name, value in wild.values.items():
        assert torch.equal(value[others], with_a_calm_neighbour.values[name][others])


def test_measurements_are_missing_from_the_one_at_which_a_run_has_diverged():
    found = history(neural(), sizes_of(0.05, 1e4, 0.02), steps=30, every=1)
    lost = [bool(measurement.diverged[1]) for measurement in found]
    begin = lost.index(True)
    assert 0 < begin < 29
    assert all(lost[begin:])
    for index, measurement in enumerate(found):
        for value in measurement.values.values():
            assert value.dtype == F64
            assert value.isnan().tolist() == [False, index >= begin, False]


class Excursion(Rule):
    """A rule of the user's own, whose head is far away after the third update and back again."""

    name = "excursion"

    def init(self, parameters, observation, generator):
        return parameters, {"count": parameters.head.new_zeros(())}

    def update(self, features, parameters, batch, state):
        return {"count": state["count"] + 1}

    def directions(self, features, parameters, batch, state):
        there = torch.where(state["count"] == 3, 1e9, 0.5)
        body = {name: torch.zeros_like(tensor) for name, tensor in parameters.body.items()}
        return Parameters(body, parameters.head - there, {})


def test_a_run_that_comes_back_stays_lost():
    sizes = StepSizes(*(torch.tensor([1.0, 1.0, 0.0], dtype=F64),) * 3)
    found = history(neural(Excursion()), sizes, steps=6, every=1, scheduled="constant")
    assert [m.diverged.tolist() for m in found] == [[False] * 3] * 2 + [[True, True, False]] * 4
    assert found[-1].state.parameters.head[:2].unique().tolist() == [0.5]
    assert found[-1].values["error/rmspbe"].isnan().tolist() == [True, True, False]


def test_a_run_that_was_lost_before_resuming_stays_lost():
    lost = torch.tensor([False, False, True])
    (only,) = history(neural(), sizes_of(*CALM), steps=5, every=5, start=4, diverged=lost)
    assert only.diverged.tolist() == [False, False, True]
    assert only.values["norm/head"].isnan().tolist() == [False, False, True]


def test_a_population_of_lost_runs_is_measured_without_a_failure():
    found = history(neural(), sizes_of(1e9, 1e9, 1e9), steps=40, every=39)
    assert bool(found[-1].diverged.all())
    assert all(bool(value.isnan().all()) for value in found[-1].values.values())
