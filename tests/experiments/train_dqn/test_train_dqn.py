"""The program that trains: what lands in its folder, resuming, and what it refuses."""

import csv
import json
import signal
import sys

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.dqn.learner import Learner
from agents.dqn.objectives import CONTROL_RULES
from experiments.runs.folder.checkpoint import load_checkpoint
from experiments.train_dqn import __main__ as program
from experiments.train_dqn import run as dqn_run
from experiments.train_dqn import train as dqn_train
from experiments.train_dqn.policy import load_policy, load_trained
from experiments.train_dqn.settings import read_dqn_settings
from neural_tdc.split_rates import effective_rates

SHORT = (
    "--problem CartPole-v1 --update-every 1 --learning-starts 60 --measure-every 100 "
    "--evaluate-every 200 --evaluation-episodes 3 --replay-capacity 300 --batch 16 "
    "--hidden 8 --features 6 --epsilon-steps 200 --target-period 40 --rate-last 1"
)
TINY = f"{SHORT} --steps 400"


@pytest.fixture
def train(run_program, monkeypatch):
    """Return a function that runs the program; its figure, which takes longest, is a stub."""
    monkeypatch.setattr(dqn_train, "run_figure", lambda path, *_: path.write_bytes(b"figure"))

    def run(line):
        return run_program(program.train_dqn, line)

    return run


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def weights(folder):
    return load_checkpoint(folder / "checkpoint.pt")["training"]["learner"]["network"]


def same_weights(one, other):
    return all(torch.equal(weights(one)[name], value) for name, value in weights(other).items())


def end_after(monkeypatch, measurements, end):
    """Let a function be called after so many measurements of a run."""
    advance, calls = dqn_run.DQNRun._advance, []

    def counted(self):
        advance(self)
        calls.append(1)
        if len(calls) == measurements:
            end()

    monkeypatch.setattr(dqn_run.DQNRun, "_advance", counted)


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


def test_interrupted_and_resumed_equals_uninterrupted(train, tmp_path, monkeypatch):
    assert train(f"{TINY} --save-replay --out whole").status == 0
    advance = dqn_run.DQNRun._advance
    end_after(monkeypatch, 2, lambda: signal.raise_signal(signal.SIGINT))
    stopped = train(f"{TINY} --save-replay --out cut")
    assert stopped.status == 130
    assert stopped.lines[-1] == (
        f"stopped; go on with: python -m experiments.train_dqn {TINY} --save-replay --out cut "
        "--resume"
    )
    assert len(rows(tmp_path / "cut")) == 2
    monkeypatch.setattr(dqn_run.DQNRun, "_advance", advance)
    again = train(f"{TINY} --save-replay --out cut --resume")
    assert again.status == 0, again.error
    assert "begin anew" not in again.out
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert (whole / "metrics.csv").read_bytes() == (cut / "metrics.csv").read_bytes()
    assert (whole / "scores.json").read_bytes() == (cut / "scores.json").read_bytes()
    assert same_weights(whole, cut)


def test_a_run_that_was_killed_before_it_saved_anything_learned_begins_again(
    train, tmp_path, monkeypatch
):
    assert train(f"{TINY} --out whole").status == 0
    advance = dqn_run.DQNRun._advance
    end_after(monkeypatch, 3, lambda: sys.exit("killed"))
    with pytest.raises(SystemExit):
        train(f"{TINY} --out cut")
    assert len(rows(tmp_path / "cut")) == 3
    assert not (tmp_path / "cut" / "checkpoint.pt").exists()
    monkeypatch.setattr(dqn_run.DQNRun, "_advance", advance)
    again = train(f"{TINY} --out cut --resume")
    assert again.status == 0, again.error
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert (whole / "metrics.csv").read_bytes() == (cut / "metrics.csv").read_bytes()
    assert same_weights(whole, cut)
    events = EventAccumulator(str(cut)).Reload()
    assert [event.step for event in events.Scalars("loss/td")] == [100, 200, 300, 400]


def test_without_the_replay_a_resumed_run_says_what_begins_anew(train, tmp_path):
    assert train(f"{SHORT} --steps 200 --out run").status == 0
    again = train(f"{TINY} --out run --resume")
    assert again.status == 0, again.error
    assert "resumed: the games that were running begin anew" in again.out
    assert "resumed: the replay was not stored" in again.out
    assert [row["step"] for row in rows(tmp_path / "run")] == ["100", "200", "300", "400"]


def test_a_longer_resumed_run_keeps_the_fall_of_its_rates(train, tmp_path, monkeypatch):
    falling = f"{SHORT.replace('--rate-last 1', '--rate-last 0.25')} --body-step 0.001 --out run"

    def factors():
        return [float(row["step_size/body"]) / 0.001 for row in rows(tmp_path / "run")]

    # Stopped in the middle of its fall, and made longer at once.
    advance = dqn_run.DQNRun._advance
    end_after(monkeypatch, 1, lambda: signal.raise_signal(signal.SIGINT))
    assert train(f"{falling} --steps 200").status == 130
    monkeypatch.setattr(dqn_run.DQNRun, "_advance", advance)
    again = train(f"{falling} --steps 300 --resume")
    assert again.status == 0, again.error
    assert "the rates keep their last factor 0.25 from step 200 on" in again.out
    # The rate of a row is that of the last update before it.
    expected = [1 - 0.75 * 99 / 200, 1 - 0.75 * 199 / 200, 0.25]
    assert factors() == pytest.approx(expected)
    assert train(f"{falling} --steps 400 --resume").status == 0
    assert factors() == pytest.approx([*expected, 0.25])


def test_a_loss_that_is_not_finite_stops_with_the_step_and_a_checkpoint(
    train, tmp_path, monkeypatch
):
    update, count = Learner.update, []

    def broken(self, batch):
        loss, value = update(self, batch)
        count.append(1)
        return (loss * float("nan") if len(count) == 70 else loss), value

    monkeypatch.setattr(Learner, "update", broken)
    done = train(f"{TINY} --out run --checkpoint-every 0")
    assert done.status == 1
    assert done.lines[-1].startswith(
        "error: the loss is not finite at agent step 130 (update 70); what is saved in run is"
    )
    saved = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert saved["step"] == 100
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())


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


def test_gradient_td_learns_at_three_rates_and_its_policy_is_loaded(train, tmp_path):
    short = SHORT.replace("--target-period 40 ", "")
    done = train(f"{short} --steps 100 --out run --rule qrc --auxiliary-step 0.007 --kappa 0.3")
    assert done.status == 0, done.error
    (row,) = rows(tmp_path / "run")
    assert float(row["step_size/auxiliary"]) == 0.007
    assert float(row["gradient/auxiliary"]) > 0
    saved = load_checkpoint(tmp_path / "run" / "checkpoint.pt")["training"]["learner"]
    assert saved["auxiliary"]["weight"].shape == (2, 6)
    assert float(saved["auxiliary"]["weight"].abs().max()) > 0
    trained = load_trained(tmp_path / "run" / "checkpoint.pt")
    assert trained.settings.objective == CONTROL_RULES["qrc"]._replace(kappa=0.3)


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
    "--problem CartPole-v1 --resume": "does not exist; leave --resume away",
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


def test_a_checkpoint_of_another_game_or_network_and_a_damaged_one_are_refused(train, tmp_path):
    assert train(f"{SHORT} --steps 100 --out run").status == 0
    for old, new, said in (
        ("--problem CartPole-v1", "--problem Acrobot-v1", "differs from the CartPole-v1"),
        ("--hidden 8", "--hidden 9", "--hidden 9 differs from the 8"),
        ("--batch 16", "--batch 17", "--batch 17 differs from the 16"),
        ("--target", "--seed 3 --target", "--seed 3 differs from the 0"),
        ("--target", "--steps 90 --target", "--steps 90 is less than the 100"),
    ):
        steps = "" if "--steps" in new else "--steps 100"
        done = train(f"{SHORT.replace(old, new)} {steps} --out run --resume")
        assert done.status == 2
        assert said in done.lines[-1]
    path = tmp_path / "run" / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    done = train(f"{SHORT} --steps 100 --out run --resume")
    assert done.status == 2
    assert "checkpoint.pt is damaged" in done.lines[-1]


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
