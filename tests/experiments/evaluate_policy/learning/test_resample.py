"""--resample: the value of the policy with an interval over the chance of the data."""

import json

import numpy as np
import pytest

from experiments.evaluate_policy.parts.plan import evaluation_plan
from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.runs.results.history import read

WALK = "--problem random-walk-tabular --features given --compile off --rule td"
SHORT = "--sampling iid --batch 8 --head-step 0.3 --steps 60 --measure-every 60"


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def value_of(folder):
    return summary_of(folder)["value"]


def test_the_interval_is_over_resamples_and_around_run_0(evaluate, tmp_path):
    line = f"{WALK} {SHORT} --runs 12"
    plain = evaluate(f"{line} --out plain")
    resampled = evaluate(f"{line} --resample episodes --out drawn")
    assert (plain.status, resampled.status) == (0, 0), resampled.error
    before, found = (read(tmp_path / each / "metrics.csv") for each in ("plain", "drawn"))
    # Run 0 learns the same; the others have data of their own in both.
    np.testing.assert_array_equal(
        before.values("value/starts")[:, 0], found.values("value/starts")[:, 0]
    )
    value = value_of(tmp_path / "drawn")
    assert value["mean"] == found.last("value/starts")[0]
    others = found.last("value/starts")[1:]
    # Student's t of ten degrees of freedom.
    assert value["high"] - value["mean"] == pytest.approx(2.228 * others.std(ddof=1), rel=2e-3)
    assert value["over"].startswith("11 resamples of ")
    assert value["over"].endswith(" episodes")
    assert "95 % interval over 11 resamples of" in resampled.out
    assert "resampling: run 0 learns from the data as they are" in resampled.out
    assert value_of(tmp_path / "plain")["over"] == "12 runs, each with its own data"
    assert json.loads((tmp_path / "drawn/config.json").read_text())["resample"] == "episodes"


def test_effective_sample_size_and_largest_ratio_are_next_to_off_policy_values(evaluate, tmp_path):
    outcome = evaluate(f"{WALK} {SHORT} --runs 3 --out run")
    assert outcome.status == 0, outcome.error
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("td: value of")]
    assert "effective sample size 5" in line
    assert line.endswith("of 60 transitions, largest ratio 1.2")
    found = summary_of(tmp_path / "run")
    assert found["largest_ratio"] == pytest.approx(1.2)
    assert 50 < found["effective_sample_size"] < 60
    onward = evaluate(f"--problem boyan --features given --rule td {SHORT} --runs 3 --out boyan")
    assert "value of the policy ρ(π)" in onward.out
    assert "largest ratio" not in onward.out


def test_a_longer_resumed_run_learns_from_the_same_draws():
    def rows(steps, pool):
        settings = EvaluationSettings(
            problem="boyan",
            features="given",
            rule=("td",),
            runs=4,
            steps=steps,
            resample="episodes",
        )
        return evaluation_plan(settings).task(settings, pool).experience.rows

    assert rows(40, 40).shape == (4, 40)
    assert rows(60, 40).tolist() == rows(40, 40).tolist()


def test_auto_has_an_interval_over_a_hundred_resamples(evaluate, tmp_path):
    outcome = evaluate(
        "--problem boyan --steps 1500 --updates 0 --resample episodes --seed 1 --out run"
    )
    assert outcome.status == 0, outcome.error
    value = value_of(tmp_path / "run")
    assert value["over"].startswith("100 resamples of ")
    assert value["low"] < -24.667 < value["high"]
    assert value["high"] - value["low"] < 3
    assert "auto: value of the policy ρ(π)" in outcome.out


def test_without_resampling_auto_has_no_interval_and_says_how_to_get_one(evaluate, tmp_path):
    outcome = evaluate("--problem boyan --steps 600 --updates 0 --out run")
    assert outcome.status == 0, outcome.error
    assert value_of(tmp_path / "run")["low"] is None
    assert "(one search has no interval over runs; --resample episodes gives one)" in outcome.out


def episode(path, length=40):
    """Write a log of one episode."""
    end = np.arange(length) == length - 1
    np.savez(
        path,
        observation=np.random.default_rng(0).normal(size=(length, 2)),
        action=np.zeros(length, dtype=np.int64),
        reward=np.ones(length),
        terminated=end,
        truncated=np.zeros(length, dtype=bool),
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--rule td --runs 3", "one episode of"),
        ("", "holds 1 episode"),
    ],
)
def test_a_log_of_one_episode_is_refused_in_one_line(evaluate, tmp_path, line, said):
    episode(tmp_path / "one.npz")
    outcome = evaluate(f"--data one.npz {line} --resample episodes --out run")
    assert outcome.status == 2
    assert len(outcome.lines) == 1, outcome.error
    assert "--data one.npz" in outcome.error
    assert said in outcome.error
    assert not (tmp_path / "run").exists()


def test_too_few_runs_to_resample_are_refused(evaluate):
    outcome = evaluate(f"{WALK} --runs 2 --resample episodes")
    assert outcome.status == 2
    assert "--runs 2 must be at least 3" in outcome.error
    assert len(outcome.lines) == 1


def test_rows_of_many_runs_that_do_not_fit_into_memory_are_refused(evaluate, monkeypatch):
    monkeypatch.setattr(
        "experiments.evaluate_policy.parts.memory.available_bytes", lambda _: 10_000_000
    )
    line = f"{WALK} --steps 20000 --runs 200"
    outcome = evaluate(f"{line} --resample episodes")
    assert outcome.status == 2
    assert "--runs 200 --resample episodes: the resampled rows take" in outcome.error
    assert len(outcome.lines) == 1


def test_a_baseline_and_values_of_actions_learn_from_the_resamples_too(evaluate, tmp_path):
    boyan = evaluate(
        "--problem boyan --rule lstd-random --steps 400 --runs 4 --prefixes 1 --resample episodes "
        "--out baseline"
    )
    assert boyan.status == 0, boyan.error
    value = value_of(tmp_path / "baseline")
    assert value["over"].startswith("3 resamples of ")
    assert value["low"] < value["mean"] < value["high"]
    actions = evaluate(f"{WALK} --values q {SHORT} --runs 4 --resample episodes --out actions")
    assert actions.status == 0, actions.error
    assert value_of(tmp_path / "actions")["over"].startswith("3 resamples of ")
