"""The program on environments as they are: with and without a truth, with continuous actions."""

import json

import pytest

from neural_tdc import load_value

CLOCK = """
import gymnasium, numpy as np
from gymnasium import spaces

class Clock(gymnasium.Env):
    observation_space = spaces.Dict(time=spaces.Discrete(3), far=spaces.Box(-1, 1, (2, 1)))
    action_space = spaces.Discrete(2)

    def __init__(self):
        self.LIMIT = 7

    def seen(self):
        return {"time": self.time % 3, "far": np.zeros((2, 1), np.float32)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.seen(), {}

    def step(self, action):
        self.time += 1
        return self.seen(), 1.0, False, self.time >= self.LIMIT, {}
"""
TINY = "--rule td --runs 2 --steps 6 --held-out 20 --truth-rollouts 2 --compile off --out run"


def metrics(folder):
    return json.loads((folder / "run" / "summary.json").read_text())["metrics"]


@pytest.mark.parametrize("limit", ["max_steps", "patience"])
def test_an_environment_that_cuts_itself_has_a_truth_or_goes_without(evaluate, tmp_path, limit):
    (tmp_path / f"clock_{limit}.py").write_text(CLOCK.replace("LIMIT", limit))
    done = evaluate(f"--problem clock_{limit}:Clock --gamma 0.5 --truth-states 3 {TINY}")
    assert done.status == 0, done.error
    if limit == "max_steps":
        assert "truth of Clock: 3 states, 2 rollouts each, values 2 ± 0" in done.out.replace(
            f"clock_{limit}:", ""
        )
        assert "rmsve" in metrics(tmp_path)
    else:
        assert "cuts its episodes by a limit of its own" in done.out
        assert {"rmstde", "rmspbe"} <= metrics(tmp_path).keys()
        assert "rmsve" not in metrics(tmp_path)


@pytest.mark.parametrize("problem", ["MinAtar/Breakout", "Pendulum-v1"])
def test_games_and_continuous_actions_are_evaluated_by_their_names(evaluate, tmp_path, problem):
    if problem.startswith("MinAtar"):
        pytest.importorskip("minatar")
    done = evaluate(f"--problem {problem} --gamma 0.5 --truth-states 2 {TINY}")
    assert done.status == 0, done.error
    shape = (10, 10, 4) if problem.startswith("MinAtar") else (3,)
    value = load_value(tmp_path / "run")
    assert value([[[[0.0] * 4] * 10] * 10] if len(shape) == 3 else [[1.0, 0.0, 0.0]]).shape == (1,)
    assert "rmsve" in metrics(tmp_path)


def test_no_truth_is_asked_for_by_no_states(evaluate, tmp_path):
    line = TINY.replace("--truth-rollouts 2 ", "")
    done = evaluate(f"--problem CartPole-v1 --truth-states 0 {line}")
    assert done.status == 0, done.error
    assert "without a truth of CartPole-v1" in done.out
    assert "rmsve" not in metrics(tmp_path)


def test_large_ratios_are_limited_and_counted(evaluate, tmp_path):
    flags = "--behaviour soft --ratio-limit 1.5 --truth-states 0"
    done = evaluate(f"--problem Pendulum-v1 {flags} {TINY.replace('--truth-rollouts 2 ', '')}")
    assert done.status == 0, done.error
    (line,) = [each for each in done.out.splitlines() if each.startswith("importance ratios")]
    assert "largest 1.5" in line
    assert line.endswith("limited to 1.5")
