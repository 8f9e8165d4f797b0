"""The benchmark of a population: parts within the whole, and a ratio of what was measured."""

import argparse

import pytest

from agents.dqn.objectives import CONTROL_RULES
from benchmarks.dqn_population import measured, population, table


def test_the_parts_of_a_population_are_within_its_time_and_the_ratio_is_of_both():
    sizes = {"runs": 2, "hidden": 4, "features": 4, "batch": 4, "threads": 1, "processes": 1}
    options = argparse.Namespace(
        problem="CartPole-v1", rule="q", rounds=2, window=10, out=None, **sizes
    )
    result = measured(options)
    times, parts = result["microseconds_a_run_step"], result["cpu_microseconds_of_parts"]
    assert set(parts) == {"environments", "actions", "drawing batches", "storing", "updates"}
    assert all(each > 0 for each in parts.values())
    assert sum(parts.values()) < 1.05 * times["population"]["cpu"]
    times["population"]["wall"], times["one run at a time"]["wall"] = 10.0, 35.0
    times["population"]["cpu"], times["one run at a time"]["cpu"] = 5.0, 40.0
    assert "ratio 3.5 of wall time, 8.0 of CPU time" in table(result)
    assert "100,000 run-steps a second" in table(result)


def test_a_population_plays_minatar_with_its_convolution():
    pytest.importorskip("minatar")
    options = argparse.Namespace(problem="MinAtar/Breakout", runs=2, hidden=4, features=8, batch=4)
    made = population(options, CONTROL_RULES["q"])
    made.advance(103)
    assert made.updates == 1
    made.environments.close()
