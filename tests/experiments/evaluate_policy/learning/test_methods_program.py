import json
import shutil

import numpy as np
import pytest
import torch

from experiments.runs.results.history import read
from neural_tdc import load_value

SHORT = "--steps 300 --runs 2 --out run"


def test_methods_stand_next_to_rules_in_one_table_and_each_value_loads(evaluate, tmp_path):
    outcome = evaluate(
        "--problem boyan --rule td lstd-random constant --random-features 20 --prefixes 3 "
        f"--compile off {SHORT}"
    )
    assert outcome.status == 0, outcome.error
    table = [line.split()[0] for line in outcome.out.splitlines() if "of 2" in line]
    assert table == ["td", "lstd-random", "constant"]
    summaries = json.loads((tmp_path / "run/summary.json").read_text())
    assert summaries["lstd-random"]["passes"].startswith("one pass")
    assert summaries["lstd-random"]["settings"]["random_features"] == 20
    history = read(tmp_path / "run/lstd-random/metrics.csv")
    assert history.steps.tolist() == [100, 200, 300]
    states = torch.eye(12)
    for rule in ("td", "lstd-random", "constant"):
        value = load_value(tmp_path / f"run/{rule}")
        assert value.runs == 2
        final = summaries[rule]["metrics"]["rmsve"]["final"]["mean"]
        assert np.isclose(history.last("error/rmsve").mean(), final) == (rule == "lstd-random")
        spread = value(states).std()
        assert (spread < 1e-4) == (rule == "constant")
    assert (tmp_path / "run/figure.png").exists()


def test_a_method_resumes_after_the_prefixes_that_are_done(evaluate, tmp_path):
    line = "--problem boyan --rule lstd-fourier --random-features 9 --runs 2 --out run"
    assert evaluate(f"{line} --steps 200 --prefixes 2").status == 0
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert evaluate(f"{line} --steps 400 --prefixes 2 --resume").status == 0
    resumed = read(tmp_path / "run/metrics.csv")
    assert resumed.steps.tolist() == [100, 200, 400]
    again = evaluate(f"{line} --steps 400 --prefixes 4 --overwrite")
    assert again.status == 0, again.error
    whole = read(tmp_path / "run/metrics.csv")
    assert whole.steps.tolist() == [100, 200, 300, 400]
    np.testing.assert_array_equal(whole.last("error/rmsve"), resumed.last("error/rmsve"))
    first = (tmp_path / "copy/metrics.csv").read_text().splitlines()
    assert (tmp_path / "run/metrics.csv").read_text().splitlines()[: len(first)] == first


@pytest.mark.usefixtures("clock_log")
def test_a_log_is_learned_from_without_its_held_out_part(evaluate, tmp_path):
    flags = "--rule lstd-random --runs 1 --gamma 1 --random-features 30 --out run"
    outcome = evaluate(f"--data clock.npz {flags}")
    assert outcome.status == 0, outcome.error
    assert "288 transitions to learn from" in outcome.out
    value = load_value(tmp_path / "run")
    torch.testing.assert_close(
        value(torch.tensor([[3.0, 1.0], [9.0, 1.0]])).double(),
        torch.tensor([3.0, 9.0], dtype=torch.float64),
        atol=0.3,
        rtol=0,
    )


OWN = """
from dataclasses import dataclass
import torch
from neural_tdc.baselines.linear_value import LinearValue
from neural_tdc.baselines.method import Method

@dataclass(frozen=True)
class Zero(Method):
    name = "zero"
    trace_decay: float = 0.25
    def learn(self, streams, seed, on_progress):
        level = torch.tensor([self.trace_decay], dtype=torch.float64)
        return [LinearValue([], level) for _ in streams]

def make():
    return Zero()
"""


def test_a_method_of_ones_own_is_a_rule_by_module_and_function(evaluate, tmp_path):
    (tmp_path / "zero_method.py").write_text(OWN)
    outcome = evaluate(f"--problem boyan --rule zero_method:make --baseline-lambda 0.5 {SHORT}")
    assert outcome.status == 0, outcome.error
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["settings"] == {"trace_decay": 0.5}
    assert load_value(tmp_path / "run")(torch.eye(12)).std() < 1e-9


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--rule lstd-random --head-step 0.5", "--head-step 0.5 has no effect with --rule lstd-ra"),
        ("--rule lstd-random --budget 3", "--budget 3.0 has no effect with --rule lstd-random, on"),
        ("--rule td --prefixes 3", "--prefixes 3 has no effect with --rule td, only with methods"),
        ("--rule fitted --random-features 5", "only with lstd-fourier, lstd-random, stackelberg-t"),
        ("--rule lstd-random --solves refits", "only with stackelberg-td"),
        ("--rule constant td --updates 5", "only with fitted, stackelberg-td or auto"),
        ("--rule lstd-random --baseline-lambda 2", "--baseline-lambda 2 is not allowed"),
        ("--rule lstd-randon", "did you mean lstd-random"),
    ],
)
def test_what_a_method_does_not_take_is_one_line(evaluate, tmp_path, line, said):
    outcome = evaluate(f"--problem boyan {line} --out run")
    assert outcome.status == 2
    assert len(outcome.lines) == 1, outcome.error
    assert said in outcome.error
    assert not (tmp_path / "run").exists()
