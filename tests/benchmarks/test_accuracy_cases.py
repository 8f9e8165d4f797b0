"""The accuracy benchmark beyond its simulators: cases, regrets, files that continue, tables."""

import json
import math

import pytest
import torch

from benchmarks.accuracy import cases, methods, run
from benchmarks.accuracy.cases import made_case
from benchmarks.accuracy.criteria import candidate_errors, regrets
from benchmarks.accuracy.table import tables
from neural_tdc.baselines.log_preparation import ordered_stream
from neural_tdc.baselines.search.learned_candidates import learn_candidates, weighted_value


@pytest.fixture
def walk(monkeypatch):
    """Return a short case of the random walk."""
    monkeypatch.setattr(cases, "TRANSITIONS", 400)
    return made_case("random-walk-tabular", 0)


def test_regrets_are_relative_to_the_candidate_that_the_truth_puts_first(walk):
    candidates = learn_candidates(ordered_stream(walk.stream), 4, 0, 8, 0)
    errors = candidate_errors(candidates, walk)
    assert len(errors) == len(candidates.names)
    alone = torch.zeros(len(errors), dtype=torch.float64)
    alone[7] = 1
    value = weighted_value(candidates, alone)(walk.observation)
    exact = (walk.weighting @ (value - walk.value).square()).sqrt()
    torch.testing.assert_close(errors[7], exact)
    found = regrets(candidates, walk, 3 * float(errors.min()))
    assert found["relative"]["auto"] == pytest.approx(3)
    assert found["candidates"] == len(errors)
    assert all(ratio >= 1 for ratio in found["relative"].values())


def test_a_job_continues_after_the_methods_that_its_file_has(walk, tmp_path, monkeypatch):
    asked = []

    def counted(name, value):
        def learn(case, seed, left):
            asked.append(name)
            return torch.full_like(case.value, value), {"note": name}

        return learn

    names = {"one": counted("one", 0.0), "two": counted("two", math.inf)}
    monkeypatch.setattr(run, "made_case", lambda name, seed: walk)
    monkeypatch.setattr(run, "methods_of", lambda case, with_rules: names)
    task = run.Task("some name", 3, str(tmp_path))
    assert [*run.job(task._replace(methods=("one",)))["results"]] == ["one"]
    found = run.job(task)
    assert asked == ["one", "two"]
    assert found["results"]["two"]["error"] == math.inf
    names["three"] = counted("three", 0.0)
    again = run.job(task)
    assert asked == ["one", "two", "three"]
    assert again == json.loads((tmp_path / "some-name-3.json").read_text())
    assert run.finished("some name", 3, str(tmp_path)) == again
    assert run.finished("another", 0, str(tmp_path)) is None


def test_the_tables_show_means_over_logs_with_intervals_and_every_criterion():
    def log(seed, error):
        regret = {"relative": {"auto": error, "tournament": 2.0}}
        results = {
            "auto": {"error": error, "seconds": 3.0, "regret": regret},
            "td": {"error": 2.0, "seconds": 1.0},
        }
        return {"problem": "queue", "seed": seed, "off_policy": False, "results": results}

    text = tables([log(0, 1.0), log(1, 4.0)])
    # The logarithms 0 and log 4 have the mean log 2 and the standard error log 2; t(1) = 12.71.
    low, high = 2 * 2**-12.7062047, 2 * 2**12.7062047
    assert f"**2.000 [{low:.3f}, {high:.3f}]**" in text
    assert "queue 1.00; geometric mean over problems 1.000, largest 1.00" in text
    assert "| auto | on-policy | 2 | 2.00 | 1 of 2 | 4.00 |" in text
    assert "| tournament | on-policy | 2 | 2.00 | 0 of 2 | 2.00 |" in text


def test_plain_programs_run_on_simulated_logs_only(walk):
    assert set(methods.methods_of(walk, with_rules=False)) == {
        *methods.PRODUCT,
        *methods.REFITS,
    }
    simulated = walk._replace(log=object())
    names = set(methods.methods_of(simulated, with_rules=True))
    assert {"frozen body", "auto with rules", "lstd(0)"} <= names
    assert "monte-carlo" not in names
