"""Runs that were stopped, killed or broken: what is saved, what a resumed run does and refuses."""

import signal
import sys

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.dqn.learner import Learner
from experiments.runs.folder.checkpoint import load_checkpoint
from experiments.train_dqn import run as dqn_run
from tests.experiments.train_dqn.short_run import SHORT, TINY, rows, same_weights, weights


def end_after(monkeypatch, measurements, end):
    """Let a function be called after so many measurements of a run."""
    advance, calls = dqn_run.DQNRun._advance, []

    def counted(self):
        advance(self)
        calls.append(1)
        if len(calls) == measurements:
            end()

    monkeypatch.setattr(dqn_run.DQNRun, "_advance", counted)


def test_interrupted_and_resumed_equals_uninterrupted(train, tmp_path, monkeypatch):
    assert train(f"{TINY} --save-replay --out whole").status == 0
    advance = dqn_run.DQNRun._advance
    end_after(monkeypatch, 2, lambda: signal.raise_signal(signal.SIGINT))
    stopped = train(f"{TINY} --save-replay --out cut")
    assert stopped.status == 130
    assert stopped.lines[-1] == (
        f"stopped; continue with: python -m experiments.train_dqn {TINY} --save-replay --out cut "
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
