"""`--values q`: values of actions by the program, and what cannot be."""

import numpy as np
import pytest
import torch

from envs.finite.standard_problems import problem
from experiments.runs.results.history import read
from neural_tdc.value_file import load_value
from tests.experiments.evaluate_policy.command_lines import TINY, WALK
from tests.experiments.run_files import same_run, strict

TRUTH = "--truth-states 4 --truth-rollouts 2 --held-out 50 --compile off"
POLICY = """import torch

def leaning(observation):
    right = 0.2 + 0.6 * (observation[:, 0] > 5).float()
    return torch.stack([1 - right, right], 1)
"""


def log(tmp_path, **changes):
    """Write a log of 120 rows without probabilities, and a policy."""
    draws = np.random.default_rng(0)
    none = np.zeros(120, bool)
    rows = {
        "observation": 5 + 3 * draws.normal(size=(120, 2)).astype(np.float32),
        "action": draws.integers(2, size=120),
        "reward": draws.normal(size=120),
        "terminated": none,
        "truncated": none,
    }
    np.savez(tmp_path / "walk.npz", **(rows | changes))
    (tmp_path / "own_policy.py").write_text(POLICY)
    return "--data walk.npz"


def test_on_a_chain_errors_of_q_and_of_v_are_measured_and_both_are_loaded(evaluate, tmp_path):
    line = f"{WALK} {TINY} --values q --rule tdc gtd2 --dtype float64 --out run"
    outcome = evaluate(line)
    assert outcome.status == 0, outcome.error
    assert "RMSQE" in outcome.out
    history = read(tmp_path / "run" / "tdc" / "metrics.csv")
    assert {"error/rmsve", "error/rmsqe", "error/rmspbe", "error/lstd_rmsve"} <= {*history.names}
    summary = strict(tmp_path / "run" / "tdc" / "summary.json")
    assert summary["metrics"]["rmsqe"]["final"]["mean"] > 0
    mdp = problem("random-walk-tabular")
    value = load_value(tmp_path / "run" / "tdc")
    q = torch.stack([value(range(5), torch.full((5,), action)) for action in range(2)], 1)
    assert torch.allclose(value(range(5)), (mdp.target * q).sum(1), atol=1e-12)
    squared = (
        (
            value.of_runs(range(5))
            - torch.linalg.solve(
                torch.eye(5, dtype=torch.float64)
                - torch.einsum("sa,sat->st", mdp.target, mdp.transition),
                (mdp.target * mdp.termination * mdp.terminal_reward).sum(1),
            )
        ).square()
        @ torch.tensor([1, 2, 3, 2, 1], dtype=torch.float64)
        / 9
    )
    assert np.allclose(history.values("error/rmsve")[-1], squared.sqrt().numpy(), atol=1e-12)


def test_with_lambda_over_sequences_given_features_and_a_resume(evaluate, tmp_path):
    line = f"{WALK} --values q --rule td --features given --lambda 0.7 --sampling sequences "
    line += "--sequence-length 4 --runs 2 --measure-every 4 --steps"
    assert evaluate(f"{line} 8 --out run").status == 0
    assert evaluate(f"{line} 12 --out run --resume").status == 0
    assert evaluate(f"{line} 12 --out whole").status == 0
    values = [load_value(tmp_path / name).of_runs([0, 4], [1, 0]) for name in ("run", "whole")]
    assert values[0].shape == (2, 2)
    refused = evaluate(f"{line} 12 --out run --resume".replace("--values q", ""))
    assert (refused.status, len(refused.lines)) == (2, 1)
    assert "values" in refused.error


def test_a_resumed_run_draws_the_same(evaluate, tmp_path):
    line = f"{WALK} --values q --rule tdc --runs 2 --measure-every 3 --steps"
    assert evaluate(f"{line} 6 --out run").status == 0
    assert evaluate(f"{line} 9 --out run --resume").status == 0
    assert evaluate(f"{line} 9 --out whole").status == 0
    same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("flags", ["", "--policy soft --behaviour uniform"])
def test_a_gymnasium_policy_is_found_again_by_its_name(evaluate, tmp_path, flags):
    line = f"--problem MountainCar-v0 {flags} --values q --rule td --runs 2 --steps 6 {TRUTH}"
    outcome = evaluate(f"{line} --width 4 --out run", figure=not flags)
    assert outcome.status == 0, outcome.error
    value = load_value(tmp_path / "run")
    # Moving right: ε-greedy around the last action, with ε = 0.1 or 0.5.
    state, epsilon = [-0.5, 0.01], 0.5 if flags else 0.1
    q = torch.stack([value(state, action) for action in range(3)])
    probability = torch.tensor([epsilon / 3, epsilon / 3, 1 - epsilon + epsilon / 3])
    assert torch.allclose(value(state), (probability * q).sum(), atol=1e-6)
    assert value.network(0)(torch.tensor([state])).shape == (1, 3)


def test_a_log_needs_no_probabilities_and_its_policy_is_found_again(evaluate, tmp_path):
    line = f"{log(tmp_path)} --policy own_policy:leaning --values q --rule td tdc --width 3 "
    outcome = evaluate(f"{line} --runs 2 --steps 6 --compile off --out run")
    assert outcome.status == 0, outcome.error
    assert "importance ratios" not in outcome.out
    value = load_value(tmp_path / "run" / "td")
    observation = torch.tensor([[4.0, 0.0], [6.0, 1.0]])
    q = torch.stack([value(observation, action) for action in range(2)], 1)
    probability = torch.tensor([[0.8, 0.2], [0.2, 0.8]])
    assert torch.allclose(value(observation), (probability * q).sum(1), atol=1e-6)


def test_continuous_actions_of_a_log_are_an_input_of_the_body_too(evaluate, tmp_path):
    arrays = dict(np.load(tmp_path / log(tmp_path).removeprefix("--data ")))
    arrays["action"] = np.random.default_rng(1).normal(size=(len(arrays["reward"]), 1))
    np.savez(tmp_path / "walk.npz", **arrays)
    (tmp_path / "own_normal.py").write_text(
        "import torch\ndef policy(seen): return torch.distributions.Normal(seen[:, :1] / 9, 0.1)\n"
    )
    line = "--data walk.npz --policy own_normal:policy --values q --rule td --runs 2 --steps 6"
    outcome = evaluate(f"{line} --width 4 --compile off --out run")
    assert outcome.status == 0, outcome.error
    value = load_value(tmp_path / "run")
    state = torch.tensor([[4.0, 0.0], [6.0, 1.0]])
    strong = value(state, torch.tensor([9.0, 9.0]))
    # No bounds are known.
    assert not torch.equal(value(state, torch.tensor([10.0, 10.0])), strong)
    assert torch.equal(value(state), value(state))


@pytest.mark.parametrize("flags", ["", "--policy uniform"])
def test_continuous_actions_are_an_input_of_the_body(evaluate, tmp_path, flags):
    line = f"--problem Pendulum-v1 {flags} --values q --rule td tdc --runs 2 --steps 6 {TRUTH}"
    outcome = evaluate(f"{line} --width 4 --out run", figure=not flags)
    assert outcome.status == 0, outcome.error
    value = load_value(tmp_path / "run" / "tdc")
    state = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, -3.0]])
    strong = value(state, torch.tensor([2.0, 2.0]))
    # An action beyond the bounds is executed as the bound.
    assert torch.equal(value(state, torch.tensor([9.0, 9.0])), strong)
    assert not torch.equal(value(state, torch.tensor([0.0, 0.0])), strong)
    assert torch.equal(value(state), value(state))
    assert value(state).shape == (2,)


OWN = "--policy own_policy:leaning"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--problem boyan --rule td", "--values q: boyan has a single action"),
        (f"{WALK}", "--values q needs --rule: without one, or with auto"),
        (f"{WALK} --rule auto td", "--values q needs --rule: without one, or with auto"),
        (f"{WALK} --rule vtrace", "--rule vtrace --values q: rule 'vtrace' is TD"),
        (f"{WALK} --rule frozen+htd", "--rule frozen+htd --values q: rule 'frozen+htd' is TD"),
        ("DATA --rule td", "--values q with --data walk.npz needs --policy"),
        (
            f"DATA {OWN} --rule td --lambda 0.5 --sampling sequences",
            "walk.npz has no array behaviour_probability",
        ),
        (f"{WALK} --rule td --values s", "'s'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(evaluate, tmp_path, line, said):
    data = log(tmp_path)
    values = "" if "--values" in line else "--values q"
    outcome = evaluate(f"{line.replace('DATA', data)} {values} --steps 3 --out run")
    assert outcome.status == 2, outcome.out
    assert len(outcome.lines) == 1, outcome.error
    assert said in outcome.error
    assert not (tmp_path / "run").exists()


def test_a_logged_action_that_the_policy_does_not_know_is_named(evaluate, tmp_path):
    data = log(tmp_path, action=np.arange(120) % 3)
    outcome = evaluate(f"{data} {OWN} --values q --rule td --steps 3 --out run")
    assert (outcome.status, len(outcome.lines)) == (2, 1)
    assert "action in row 2 is 2" in outcome.error
