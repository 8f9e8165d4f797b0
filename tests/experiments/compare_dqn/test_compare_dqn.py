"""The program that compares arms: its folders, its table, going on, and its intervals."""

import errno
import json
import multiprocessing

import numpy as np
import pytest

from experiments.compare_dqn import __main__ as program
from experiments.compare_dqn import run as comparison_run
from experiments.compare_dqn.comparison import (
    Finished,
    curves,
    protocols_differ,
)
from experiments.runs.results.intervals import interquartile_interval
from experiments.train_dqn import train as train_dqn

TINY = (
    "--problem CartPole-v1 --arm split body --seeds 2 --steps 120 --learning-starts 60 "
    "--replay-capacity 300 --batch 16 --evaluate-every 60 --measure-every 60 "
    "--evaluation-episodes 2 --random-games 6 --out all"
)


@pytest.fixture
def compare(run_program, monkeypatch):
    """Return a function that runs the program; its figures, which take longest, are stubs."""
    for module, name in ((train_dqn, "run_figure"), (comparison_run, "comparison_figure")):
        monkeypatch.setattr(module, name, lambda path, *_: path.write_bytes(b"figure"))
    return lambda line: run_program(program.compare_dqn, line)


def finished(scores, **protocol):
    return Finished(np.arange(len(scores)), np.array(scores), {"epsilon": 0.05, **protocol}, 1.0)


def test_every_game_arm_and_seed_has_a_run_of_its_own_and_a_line_in_the_table(compare, tmp_path):
    done = compare(TINY)
    assert done.status == 0, done.error
    game = tmp_path / "all" / "CartPole-v1"
    summary = json.loads((tmp_path / "all" / "summary.json").read_text())["CartPole-v1"]
    for arm in ("split", "body"):
        by_seed = []
        for seed in (0, 1):
            folder = game / arm / f"seed-{seed}"
            config = json.loads((folder / "config.json").read_text())
            assert (config["arm"], config["seed"]) == (arm, seed)
            evaluations = json.loads((folder / "scores.json").read_text())["evaluations"]
            by_seed.append(np.mean([np.mean(each["scores"]) for each in evaluations]))
        assert summary["arms"][arm]["by_seed"] == pytest.approx(by_seed)
        assert summary["arms"][arm]["final"]["mean"] == pytest.approx(np.mean(by_seed))
    random = json.loads((game / "random.json").read_text())
    assert random["games"] == len(random["scores"]) == 6
    assert summary["random"] == pytest.approx(np.mean(random["scores"]))
    assert summary["protocol"]["epsilon"] == 0.05
    assert done.out.count("CartPole-v1  split") == 1
    # Of two seeds the interquartile mean is the mean, and is called so.
    assert "mean score, last 3 evaluations" in done.out
    assert "interquartile" not in done.out


def test_a_comparison_goes_on_where_it_was_and_keeps_finished_runs(compare, tmp_path, monkeypatch):
    train, runs = comparison_run.train, []

    def counted(settings):
        if len(runs) == 2:
            raise KeyboardInterrupt
        runs.append(settings.out.relative_to("all"))
        return train(settings)

    monkeypatch.setattr(comparison_run, "train", counted)
    stopped = compare(TINY)
    assert stopped.status == 130
    assert stopped.lines[-1].endswith(f"{TINY} --resume")
    monkeypatch.setattr(comparison_run, "train", train)
    before = (tmp_path / "all" / "CartPole-v1" / "split" / "seed-0" / "config.json").read_bytes()
    again = compare(f"{TINY} --resume")
    assert again.status == 0, again.error
    kept = (tmp_path / "all" / "CartPole-v1" / "split" / "seed-0" / "config.json").read_bytes()
    assert kept == before
    assert len(list((tmp_path / "all").glob("*/*/*/summary.json"))) == 4
    assert [str(run) for run in runs] == ["CartPole-v1/split/seed-0", "CartPole-v1/body/seed-0"]


@pytest.mark.slow
def test_several_runs_at_a_time_give_the_scores_of_one_after_another(
    compare, tmp_path, monkeypatch
):
    def scores():
        arms = json.loads((tmp_path / "all" / "summary.json").read_text())["CartPole-v1"]["arms"]
        return {arm: result["by_seed"] for arm, result in arms.items()}

    assert compare(TINY).status == 0
    in_turn = scores()
    (tmp_path / "all").rename(tmp_path / "in-turn")
    context = multiprocessing.get_context("fork")
    with monkeypatch.context() as patch:
        # Copies of this process, which has imported everything; test_side_by_side has a fresh one.
        patch.setattr(multiprocessing, "get_context", lambda kind: context)
        done = compare(f"{TINY} --parallel 3")
        assert done.status == 0, done.error
        assert scores() == in_turn
        assert "4 of 4 runs after" in done.out
        # How many run at a time is no part of what is compared.
        (tmp_path / "all" / "CartPole-v1" / "body" / "seed-1" / "summary.json").unlink()
        assert compare(f"{TINY} --parallel 2 --resume").status == 0
    assert scores() == in_turn


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--problem CartPole-v1 --parallel 0 --out all", "--parallel 0 is not allowed"),
        (
            "--problem CartPole-v1 --parallel 3 --replay-capacity 99999999999 --out all",
            "--parallel 3: holding 3 replays of 99,999,999,999 frames (--replay-capacity) takes",
        ),
        (
            "--problem CartPole-v1 --arm split --seeds 1 --parallel 2 --out all "
            "--replay-capacity 99999999999",
            "a replay of 99,999,999,999 frames (--replay-capacity) takes",
        ),
        ("--problem CartPole-v1 --out /proc/nowhere", "--out /proc/nowhere cannot be written"),
        ("--problem CartPole-v1 --arm spilt --out all", "did you mean split"),
        ("--problem CartPole-v1 CartPole-v1 --out all", "names CartPole-v1 2 times"),
        ("--problem CartPole-v1 Pendulum-v1 --out all", "only discrete actions"),
        (
            "--problem CartPole-v1 Acrobot-v1 --frame-limit 9 --out all",
            "--frame-limit 9 has no effect on CartPole-v1",
        ),
        ("--problem CartPole-v1 --seeds 0 --out all", "--seeds 0 is not allowed"),
        (
            "--problem CartPole-v1 --seeds 1000000000 --out all",
            "--seeds 1000000000 is not allowed: give a whole number of at most 1000",
        ),
        ("--problem CartPole-v1 --out " + "n" * 300, "cannot be read: File name too long"),
        ("--problem CartPole-v1 --resume --out all", "holds no comparison to resume"),
    ],
)
def test_what_a_user_can_get_wrong_gives_one_line_before_anything_runs(
    compare, tmp_path, line, said
):
    done = compare(line)
    assert done.status == 2
    assert len(done.lines) == 1
    assert said in done.lines[0]
    assert not (tmp_path / "all").exists()


def test_a_full_disk_while_the_figure_is_drawn_is_one_line_and_is_resumed(compare, monkeypatch):
    drawn = comparison_run.comparison_figure

    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(comparison_run, "comparison_figure", full)
    line = TINY.replace("--arm split body --seeds 2", "--arm split --seeds 1")
    done = compare(line)
    assert done.status == 1
    said = (
        "error: No space left on device; finished runs and last checkpoints are kept, continue with"
    )
    assert done.lines[-1].startswith(said)
    monkeypatch.setattr(comparison_run, "comparison_figure", drawn)
    assert compare(f"{line} --resume").status == 0


def test_a_run_s_figure_that_a_full_disk_took_is_drawn_again(compare, tmp_path, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    drawn = train_dqn.run_figure
    monkeypatch.setattr(train_dqn, "run_figure", full)
    line = TINY.replace("--arm split body --seeds 2", "--arm split --seeds 1")
    assert compare(line).status == 1
    folder = tmp_path / "all" / "CartPole-v1" / "split" / "seed-0"
    learned = (folder / "metrics.csv").read_bytes()
    assert not (folder / "figure.png").exists()
    monkeypatch.setattr(train_dqn, "run_figure", drawn)
    done = compare(f"{line} --resume")
    assert done.status == 0, done.error
    assert (folder / "figure.png").read_bytes() == b"figure"
    assert (folder / "metrics.csv").read_bytes() == learned


def test_another_comparison_in_the_folder_is_refused(compare):
    assert compare(f"{TINY} --seeds 1".replace("--seeds 2 ", "")).status == 0
    assert "is not empty" in compare(TINY).lines[-1]
    assert "--seeds 2 differs from the 1" in compare(f"{TINY} --resume").lines[-1]


def test_the_interquartile_mean_cuts_a_quarter_at_either_end():
    values = np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 1000.0]])
    center, low, high = interquartile_interval(values)
    assert center[0] == 4.5
    assert 1 <= low[0] < 4.5 < high[0]
    # The outlier moves the end of the interval only where it fills a quarter of a resample.
    assert high[0] < 500


def test_the_interval_covers_the_interquartile_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        _, low, high = interquartile_interval(rng.normal(size=(1, 12)))
        covered += low[0] <= 0 <= high[0]
    assert 84 <= covered <= 99


def test_one_seed_has_no_interval_and_curves_end_where_the_shortest_run_does():
    curve = curves([finished([1.0, 2.0, 3.0])])
    assert np.isnan(curve.low).all()
    both = curves([finished([1.0, 2.0, 3.0]), finished([3.0, 4.0])])
    assert both.score.tolist() == [2.0, 3.0]
    # Two seeds, standard error 1 and 1: Student's t of one degree of freedom.
    np.testing.assert_allclose(both.low, [2 - 12.7062, 3 - 12.7062], rtol=1e-5)
    np.testing.assert_allclose(both.high, [2 + 12.7062, 3 + 12.7062], rtol=1e-5)


def test_scores_of_different_protocols_are_not_compared_silently():
    alike = {"Pong": {"split": [finished([1.0])], "body": [finished([2.0])]}}
    assert protocols_differ(alike) is None
    other = {"Pong": {"split": [finished([1.0])], "body": [finished([2.0], epsilon=0.01)]}}
    assert protocols_differ(other) == (
        "the scores of Pong were not taken alike: epsilon is 0.05 and 0.01"
    )
