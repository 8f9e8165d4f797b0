"""The program that trains: what lands in its folder, its rules and arms, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.dqn.learner import Learner
from agents.dqn.objectives import CONTROL_RULES
from experiments.runs.folder.checkpoint import load_checkpoint
from experiments.train_dqn.policy import load_policy, load_trained
from experiments.train_dqn.reading import read_dqn_settings
from neural_tdc.split_rates import effective_rates
from tests.experiments.train_dqn.short_run import SHORT, TINY, rows, same_weights


def test_tf32_is_refused_where_nothing_computes_in_it(train, tmp_path):
    done = train(f"{TINY} --device cpu --precision tf32 --out run")
    assert (done.status, done.lines[-1]) == (
        2,
        "error: --precision tf32 needs a GPU: give float32 or bf16 on the CPU",
    )
    assert not (tmp_path / "run").exists()


def test_a_run_leaves_everything_in_its_folder(train, tmp_path):
    done = train(f"{TINY} --out run")
    assert done.status == 0, done.error
    folder = tmp_path / "run"
    config, summary, scores = (
        json.loads((folder / f"{name}.json").read_text())
        for name in ("config", "summary", "scores")
    )
    assert config["precision"] == "float32"
    assert config["compiled"] is False
    assert config["protocol_evaluation"]["environment"] == "CartPole-v1"
    assert [row["step"] for row in rows(folder)] == ["100", "200", "300", "400"]
    assert [each["step"] for each in scores["evaluations"]] == [200, 400]
    assert all(len(each["scores"]) == 3 for each in scores["evaluations"])
    assert scores["protocol"]["epsilon"] == 0.05
    assert summary["protocol"] == scores["protocol"]
    assert summary["final"]["scores"] == scores["evaluations"][-1]["scores"]
    assert summary["final"]["mean"] == pytest.approx(np.mean(summary["final"]["scores"]))
    assert summary["updates"] in (339, 340)
    assert "replay: 300 frames take 4.8e-06 GB on cpu" in done.out
    assert "CartPole-v1" in done.out
    assert "epsilon 0.05" in done.out


def test_tensorboard_shows_what_a_run_is_measured_by(train, tmp_path):
    train(f"{TINY} --out run --body-step 0.0001 --head-step 0.0004")
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= {
        *("return/training", "length/training", "speed/agent_steps_per_second", "loss/td"),
        *("value/mean_q", "exploration/epsilon", "step_size/body", "step_size/head"),
        *("gradient/body", "gradient/head", "replay/fill", "evaluation/score"),
    }
    assert [e.value for e in events.Scalars("step_size/head")] == pytest.approx([0.0004] * 4)
    assert [e.value for e in events.Scalars("step_size/body")] == pytest.approx([0.0001] * 4)
    assert [e.step for e in events.Scalars("evaluation/score")] == [200, 400]
    assert events.Scalars("exploration/epsilon")[0].value == pytest.approx(1 - 0.96 / 2)


@pytest.mark.parametrize(
    ("arm", "expected"),
    [("split", (1, 4)), ("body", (1, 1)), ("head", (4, 4)), ("opposite", (4, 1))],
)
def test_arms_are_the_two_rates_in_all_their_places(train, tmp_path, monkeypatch, arm, expected):
    seen = set()
    update = Learner.update

    def watched(self, batch):
        seen.add(tuple(effective_rates(self.optimizer).values()))
        return update(self, batch)

    monkeypatch.setattr(Learner, "update", watched)
    rates = {"head": "--head-step 0.004", "body": "--body-step 0.001"}
    given = rates.get(arm, " ".join(rates.values()))
    train(f"{SHORT} --out run --steps 100 --arm {arm} {given}")
    assert seen == {tuple(0.001 * rate for rate in expected)}


def test_the_same_seed_gives_the_same_files_and_another_does_not(train, tmp_path):
    for name, seed in (("one", 1), ("two", 1), ("other", 2)):
        assert train(f"{SHORT} --steps 200 --out {name} --seed {seed}").status == 0
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    assert (one / "metrics.csv").read_bytes() == (two / "metrics.csv").read_bytes()
    assert (one / "scores.json").read_bytes() == (two / "scores.json").read_bytes()
    assert same_weights(one, two)
    assert (one / "metrics.csv").read_bytes() != (other / "metrics.csv").read_bytes()


def test_a_trained_policy_is_loaded_by_one_call(train, tmp_path):
    train(f"{SHORT} --steps 100 --out run")
    path = tmp_path / "run" / "checkpoint.pt"
    observation = torch.randn(5, 4)
    greedy = load_trained(path).network(observation).argmax(1)
    probability = load_policy(path, epsilon=0.2)(observation)
    expected = torch.full((5, 2), 0.1)
    expected[torch.arange(5), greedy] = 0.9
    torch.testing.assert_close(probability, expected)
    assert load_policy(path)(observation).max() == pytest.approx(0.975)
    assert torch.equal(load_policy(path, epsilon=0.2)(observation.double()), probability)
    with pytest.raises(ValueError, match=r"trained on observations of shape \(4,\), not \(2, 2\)"):
        load_policy(path)(torch.zeros(3, 2, 2))


def test_gradient_td_learns_at_three_rates_and_its_policy_is_loaded(train, tmp_path):
    short = (
        SHORT.replace("--target-period 40 ", "") + " --n-step 1 --lambda 0.5 --sequence-length 4"
    )
    done = train(f"{short} --steps 100 --out run --rule qrc --auxiliary-step 0.007 --kappa 0.3")
    assert done.status == 0, done.error
    (row,) = rows(tmp_path / "run")
    assert float(row["step_size/auxiliary"]) == 0.007
    assert float(row["gradient/auxiliary"]) > 0
    saved = load_checkpoint(tmp_path / "run" / "checkpoint.pt")["training"]["learner"]
    assert saved["auxiliary"]["weight"].shape == (2, 6)
    assert float(saved["auxiliary"]["weight"].abs().max()) > 0
    trained = load_trained(tmp_path / "run" / "checkpoint.pt")
    assert trained.settings.objective == CONTROL_RULES["qrc"]._replace(kappa=0.3, trace_decay=0.5)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", ("double-q", "network", "huber")),
        ("--rule q --target head --loss squared", ("q", "head", "squared")),
        ("--rule q --target none", ("q", "none", "huber")),
        ("--rule qc", ("qc", "none", "squared")),
        ("--rule tdc --target head --target-period 9", ("tdc", "head", "squared")),
    ],
)
def test_a_rule_has_its_target_and_its_loss(flags, expected):
    rule, target, loss = expected
    settings = read_dqn_settings(f"--problem CartPole-v1 {flags}".split())
    assert settings.objective == CONTROL_RULES[rule]._replace(target=target, loss=loss)


REFUSED = {
    "--problem CartPol-v1": "nearest registered names: CartPole-v1",
    "--problem Pendulum-v1": "only discrete actions",
    "--problem CartPole-v1 --network paper": "--network paper: the network paper reads pictures",
    "--problem CartPole-v1 --body-step 0": "--body-step 0 is not allowed",
    "--problem CartPole-v1 --head-step -1": "--head-step -1 is not allowed",
    "--problem CartPole-v1 --head-step nan": "--head-step nan is not allowed",
    "--problem CartPole-v1 --arm splitt": "did you mean split",
    "--problem CartPole-v1 --batch 500 --replay-capacity 400": "--batch 500 is larger than the",
    "--problem CartPole-v1 --steps 900": "--steps 900 would learn nothing: the first update comes",
    "--problem CartPole-v1 --steps 1100 --update-every 101": "--steps 1100 would learn "
    "nothing: the first update comes after 1101 agent steps",
    "--problem CartPole-v1 --arm body --head-step 0.1": "--head-step 0.1 has no effect with "
    "--arm body",
    "--problem CartPole-v1 --arm head --body-step 0.1": "--body-step 0.1 has no effect with "
    "--arm head",
    "--problem CartPole-v1 --learning-starts 3": "--learning-starts 3 is too small",
    "--problem CartPole-v1 --replay-capacity 9000000000000": "--replay-capacity 9000000000000: a "
    "replay of 9,000,000,000,000 frames takes",
    "--problem CartPole-v1 --gamma 1.5": "--gamma 1.5 is not allowed",
    "--problem CartPole-v1 --sticky-actions 0.25": "--sticky-actions 0.25 has no effect on "
    "CartPole-v1",
    "--problem CartPole-v1 --frame-limit 9": "--frame-limit 9 has no effect on CartPole-v1",
    "--problem MinAtar/Breakout --noop-max 3": "--noop-max 3 has no effect on MinAtar/Breakout",
    "--problem MinAtar/Breakout --hidden 9": "--hidden 9 has no effect with --network paper, only",
    "--problem CartPole-v1 --rule sarsa": "--rule 'sarsa' is not one of q, double-q, qc, qrc, tdc",
    "--problem CartPole-v1 --rule qc --target network": "--target network leaves nothing to "
    "correct with --rule qc: give head or none",
    "--problem CartPole-v1 --target none": "--target none makes --rule double-q the same as q",
    "--problem CartPole-v1 --rule qrc --loss squared": "--loss squared has no effect with --rule",
    "--problem CartPole-v1 --lambda 0.5": "--n-step 3 is not possible with --lambda: give",
    "--problem MinAtar/Breakout --lambda 0.5 --environments 2": "--environments 2 is not poss",
    "--problem MinAtar/Breakout --lambda 0.5 --sequence-length 5": "--batch 32 is not a multiple",
    "--problem CartPole-v1 --sequence-length 5": "--sequence-length 5 has no effect without --lamb",
    "--problem CartPole-v1 --rule qc --kappa 2": "--kappa 2.0 has no effect with --rule qc, only",
    "--problem CartPole-v1 --auxiliary-step 1": "--auxiliary-step 1.0 has no effect with",
    "--problem CartPole-v1 --rule qrc --auxiliary-step 0": "--auxiliary-step 0 is not allowed",
    "--problem CartPole-v1 --rule qrc --kappa -1": "--kappa -1 is not allowed",
    "--problem CartPole-v1 --rule tdc --target-period 9": "--target-period 9 has no effect with",
    "--problem CartPole-v1 --optimizer sgd --damping 1": "--damping 1.0 has no effect with --opt",
    "--problem CartPole-v1 --environments 0": "--environments 0 is not allowed",
    "--problem CartPole-v1 --environments 1000000": "--environments 1000000 is not allowed: give a "
    "whole number of at most 1000",
    "--problem CartPole-v1 --environments 900 --replay-capacity 900": "is too small: 900 env",
    "--problem CartPole-v1 --evaluation-episodes 1000000": "--evaluation-episodes 1000000 is not "
    "allowed: give a whole number of at most 1000",
    "--problem CartPole-v1 --seed -1": "--seed -1 is not allowed",
    "--problem CartPole-v1 --resume": "does not exist; leave out --resume",
    "--problem CartPole-v1 --steps 10 --steps 20": "--steps is given 2 times",
    "--problem CartPole-v1 --optimizer adamw": "--optimizer 'adamw' is not one of",
}


@pytest.mark.parametrize(("line", "said"), REFUSED.items())
def test_what_a_user_can_get_wrong_gives_one_line_and_no_folder(train, tmp_path, line, said):
    done = train(f"{line} --out run")
    assert done.status == 2
    assert len(done.lines) == 1
    assert done.lines[0].startswith("error: ")
    assert said in done.lines[0]
    assert not (tmp_path / "run").exists()


def test_a_policy_is_evaluated_by_algorithm_1_in_its_environment(train, evaluate, tmp_path):
    train(f"{SHORT} --steps 100 --out run")
    flags = "--rule tdc --runs 2 --steps 50 --measure-every 10 --truth-states 3 --truth-rollouts 2"
    done = evaluate(
        f"--problem CartPole-v1 --policy run/checkpoint.pt {flags} --held-out 50 --out value"
    )
    assert done.status == 0, done.error
    assert "DQN of 100 agent steps with ε = 0.05" in done.out
    other = evaluate(f"--problem Acrobot-v1 --policy run/checkpoint.pt {flags} --out other")
    assert other.status == 2
    assert "was trained on CartPole-v1, not on --problem Acrobot-v1" in other.lines[-1]
