"""The comparison over a grid: candidates and choice, the program, resuming, what it refuses."""

import json
import signal

import numpy as np
import pytest

from experiments.compare_dqn import __main__ as program
from experiments.compare_dqn import grid_figure as grid_figures
from experiments.compare_dqn import grid_run
from experiments.compare_dqn import stage as grid_stage
from experiments.compare_dqn.grid import Candidate, Entrant, best_candidate, candidates, entrants
from experiments.compare_dqn.grid_figure import grid_figure
from experiments.compare_dqn.grid_report import GameReport, fresh_scores, grid_summary
from experiments.compare_dqn.settings import read_comparison
from experiments.train_dqn import train as dqn_train
from experiments.train_dqn.settings import dqn_settings

SHARED = {
    "problem": "CartPole-v1",
    "steps": 150,
    "learning_starts": 60,
    "replay_capacity": 100,
    "batch": 8,
    "hidden": 8,
    "features": 6,
    "update_every": 5,
    "epsilon_steps": 100,
    "evaluate_every": 75,
    "evaluation_episodes": 2,
    "evaluation_longest": 40,
}
FLAGS = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in SHARED.items())
TINY = (
    f"{FLAGS} --grid --arm split body --rules double-q qrc --body-steps 1e-3 4e-3 --ratios 4 "
    "--selection-seeds 1 --seeds 2 --first-seed 5 --random-games 3 --out all"
)


@pytest.fixture
def compare(run_program, monkeypatch):
    """Return a function that runs the program; its figure, which takes longest, is a stub."""
    monkeypatch.setattr(grid_run, "grid_figure", lambda path, *_: path.write_bytes(b"figure"))
    return lambda line: run_program(program.compare_dqn, line)


def read(folder, name):
    return json.loads((folder / "all" / name).read_text())


def test_an_arm_has_its_rates_at_every_point_of_the_grid_each_once():
    line = "--problem CartPole-v1 --grid --arm split body head opposite --rule q --body-steps 1 2"
    comparison = read_comparison([*line.split(), "--ratios", "3", "6"])
    assert entrants(comparison) == [
        Entrant("q", arm) for arm in ("split", "body", "head", "opposite")
    ]
    found = {
        each.arm: [rates[1:] for rates in candidates(comparison, each)]
        for each in entrants(comparison)
    }
    assert found == {
        "split": [(1, 3), (1, 6), (2, 6), (2, 12)],
        "body": [(1, 1), (2, 2)],
        "head": [(3, 3), (6, 6), (12, 12)],
        "opposite": [(3, 1), (6, 1), (6, 2), (12, 2)],
    }


def test_the_best_candidate_has_the_largest_interquartile_mean_and_never_diverged_alone():
    scores = {
        Candidate("q", 1, 1): np.array([5.0, 5.0, 5.0, 5.0]),
        Candidate("q", 2, 2): np.array([0.0, 7.0, 6.0, 9.0]),
        Candidate("q", 3, 3): np.array([-np.inf, -np.inf, 90.0, 90.0]),
    }
    assert best_candidate(scores, list(scores)) == (Candidate("q", 2, 2), 6.5)
    assert best_candidate(scores, list(scores)[::2]) == (Candidate("q", 1, 1), 5.0)


@pytest.fixture
def finished(compare, tmp_path):
    done = compare(TINY)
    assert done.status == 0, done.error
    return done, tmp_path


def test_the_best_of_each_entrant_is_reported_on_fresh_seeds(finished):
    done, folder = finished
    assert "8 candidates from 1 seeds, then the best from 2" in done.out
    summary = read(folder, "summary.json")["CartPole-v1"]
    names = ["double-q/split", "double-q/body", "qrc/split", "qrc/body"]
    assert list(summary["entrants"]) == names
    selected = {
        (each["rule"], each["body_step"], each["head_step"]): each["score"]
        for each in summary["selection"]
    }
    assert len(selected) == 8
    stages = {
        name: read(folder, f"CartPole-v1/{name}/scores.json") for name in ("selection", "report")
    }
    assert {run["seed"] for run in stages["selection"]["runs"]} == {1000}
    assert {run["seed"] for run in stages["report"]["runs"]} == {5, 6}
    for name in names:
        rule, arm = name.split("/")
        entry = summary["entrants"][name]
        chosen = (rule, entry["body_step"], entry["head_step"])
        ratio = 4 if arm == "split" else 1
        own = {rates: score for rates, score in selected.items() if rates[0] == rule}
        of_arm = [score for rates, score in own.items() if rates[2] == ratio * rates[1]]
        assert len(of_arm) == 2
        assert selected[chosen] == entry["selection_score"] == max(of_arm)
        assert name in done.out
        assert f"{name} over {names[0]}" in summary["probability_of_improvement"] or (
            name == names[0]
        )
    pair = summary["probability_of_improvement"]
    first, second = pair["qrc/body over qrc/split"], pair["qrc/split over qrc/body"]
    assert first["mean"] + second["mean"] == pytest.approx(1)


def test_a_run_of_a_grid_scores_what_train_dqn_scores(finished, monkeypatch):
    _, folder = finished
    monkeypatch.setattr(dqn_train, "run_figure", lambda path, *_: path.write_bytes(b"figure"))
    report = read(folder, "CartPole-v1/report/scores.json")
    for place in (0, len(report["runs"]) - 1):
        run = report["runs"][place]
        given = {name: run[name] for name in ("rule", "body_step", "head_step", "seed")}
        given |= {"hidden": (8,), "measure_every": 75, "out": folder / str(place)}
        settings = dqn_settings({**SHARED, **given})
        dqn_train.train(settings, stopping=lambda: False)
        alone = json.loads((folder / str(place) / "scores.json").read_text())
        together = [each["scores"][place] for each in report["evaluations"]]
        assert [each["scores"] for each in alone["evaluations"]] == together
        assert alone["protocol"] == report["protocol"]


def test_a_stopped_grid_goes_on_to_the_bit(finished, compare, monkeypatch):
    _, folder = finished
    whole = {path: path.read_bytes() for path in (folder / "all").rglob("scores.json")}
    (folder / "all").rename(folder / "before")
    advance, calls = grid_stage._Stage._advance, []

    def stopped_once(self, evaluation):
        advance(self, evaluation)
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(grid_stage._Stage, "_advance", stopped_once)
    stopped = compare(TINY)
    assert stopped.status == 130
    assert (folder / "all" / "CartPole-v1" / "report" / "checkpoint.pt").exists()
    again = compare(f"{TINY} --resume")
    assert again.status == 0, again.error
    assert len(calls) == 4
    found = {path: json.loads(path.read_text()) for path in (folder / "all").rglob("scores.json")}
    assert found.keys() == whole.keys()
    assert not list((folder / "all").rglob("checkpoint.pt"))
    for path, content in found.items():
        expected = json.loads(whole[path])
        for part in ("runs", "evaluations", "protocol"):
            assert content[part] == expected[part]


@pytest.mark.usefixtures("forked_workers")
def test_runs_divided_among_processes_score_the_same(finished, compare):
    _, folder = finished
    path = folder / "all" / "CartPole-v1" / "report" / "scores.json"
    expected = scores_of_runs(path)
    path.unlink()
    other = path.parent / "part-1-of-3"
    other.mkdir()
    refused = compare(f"{TINY} --resume --parallel 2")
    assert refused.status == 2
    assert "--parallel 2 differs from the 3 that all/CartPole-v1/report" in refused.lines[-1]
    other.rmdir()
    done = compare(f"{TINY} --resume --parallel 2")
    assert done.status == 0, done.error
    assert len(list(path.parent.glob("part-*/scores.json"))) == 2
    assert scores_of_runs(path) == expected


def scores_of_runs(path):
    """Return {settings of a run: its scores at each evaluation}."""
    content = json.loads(path.read_text())
    return {
        tuple(run.values()): [each["scores"][place] for each in content["evaluations"]]
        for place, run in enumerate(content["runs"])
    }


def test_a_run_whose_loss_is_not_finite_is_counted_and_never_chosen(compare, tmp_path, monkeypatch):
    advance = grid_stage._Stage._advance

    def broken(self, evaluation):
        advance(self, evaluation)
        lost = [one.rule == "qrc" and one.body_step == 1e-3 for one in self.settings]
        self.diverged |= np.array(lost)

    monkeypatch.setattr(grid_stage._Stage, "_advance", broken)
    done = compare(TINY)
    assert done.status == 0, done.error
    summary = read(tmp_path, "summary.json")["CartPole-v1"]
    assert {each["diverged"] for each in summary["selection"] if each["score"] is None} == {1}
    assert summary["entrants"]["qrc/split"]["body_step"] == 4e-3


REFUSED = {
    "--problem CartPole-v1 --rules q": "--rules has no effect without --grid",
    "--problem CartPole-v1 --selection-seeds 2": "--selection-seeds has no effect without --grid",
    "--problem CartPole-v1 --grid --body-step 1": "--body-step has no effect with --grid: give",
    "--problem CartPole-v1 --grid --environments 2": "--environments has no effect with",
    "--problem CartPole-v1 --grid --first-seed 995 --seeds 6": "--first-seed 995 with --seeds 6",
    "--problem CartPole-v1 --grid --rules q qrc --rule q": "--rule q has no effect with --rules",
    "--problem CartPole-v1 --grid --rules q sarsa": "--rules 'sarsa' is not one of q, double-q,",
    "--problem CartPole-v1 --grid --rules q q": "--rules names q 2 times; give each once",
    "--problem CartPole-v1 --grid --body-steps 1e-3 0": "--body-steps 0 is not allowed",
    "--problem CartPole-v1 --grid --rules q tdc --kappa 1": "--kappa 1.0 has no effect with --rule",
    "--problem CartPole-v1 --grid --rules qc tdc --target-period 9": "--target-period 9 has no eff",
    "--problem CartPole-v1 --grid --replay-capacity 9000000000000": "--replay-capacity "
    "9000000000000: holding 21 replays of 9,000,000,000,000 frames takes",
    "--problem CartPole-v1 --grid --replay-capacity 4 --batch 4": "--replay-capacity 4: a replay "
    "of 4 frames is too small",
    "--problem CartPole-v1 --grid --rules q qc --target network": "--target network leaves nothing",
}


@pytest.mark.parametrize(("line", "said"), REFUSED.items())
def test_what_a_grid_cannot_use_is_refused_in_one_line(compare, tmp_path, line, said):
    done = compare(f"{line} --out all")
    assert done.status == 2
    assert len(done.lines) == 1
    assert done.lines[0].startswith(f"error: {said}")
    assert not (tmp_path / "all").exists()


def test_the_figure_has_a_curve_and_a_profile_for_each_entrant(tmp_path):
    rng = np.random.default_rng(0)
    chosen = {
        Entrant("q", "split"): (Candidate("q", 1, 4), 1.0),
        Entrant("qrc", "body"): (Candidate("qrc", 1, 1), 2.0),
    }
    runs = [(each, seed) for each, _ in chosen.values() for seed in range(2)]
    scores = rng.normal(size=(3, 4))
    lost = np.array([False, False, True, False])
    report = grid_stage.StageScores(runs, np.arange(3), scores, lost, {}, 1.0)
    found = GameReport(0.5, chosen, {}, report)
    assert fresh_scores(found, Entrant("qrc", "body")) == pytest.approx(scores.mean(0)[2:])
    assert grid_summary({"Pong": found})["Pong"]["entrants"]["qrc/body"]["diverged"] == 1
    grid_figure(tmp_path / "figure.png", {"Pong": found, "Qbert": found})
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_a_single_evaluation_of_a_grid_is_a_point_with_its_interval(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(grid_figures, "save_figure", lambda figure, *_: figures.append(figure))
    candidate = Candidate("q", 1, 4)
    runs = [(candidate, 0), (candidate, 1)]
    report = grid_stage.StageScores(
        runs, np.array([75]), np.array([[2.0, 4.0]]), np.zeros(2, dtype=bool), {}, 1.0
    )
    chosen = {Entrant("q", arm): (candidate, 1.0) for arm in ("split", "head")}
    found = GameReport(0.5, chosen, {}, report)
    grid_figure(tmp_path / "figure.png", {"Pong": found})
    learning, profile = figures[0].axes
    # Two arms that chose the same runs are one.
    (legend,) = figures[0].legends
    assert [text.get_text() for text in legend.texts] == ["q/split = q/head", "random policy"]
    (point,) = learning.containers
    assert point[0].get_xydata().tolist() == [[75, 3]]
    assert not profile.containers
