import json

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.runs.results.history import read
from experiments.runs.results.progress import PartsProgress
from neural_tdc import load_value

QUICK = "--updates 0 --out run"


def test_without_a_rule_the_best_value_function_is_found_and_can_be_loaded(evaluate, tmp_path):
    outcome = evaluate(f"--problem boyan --steps 3000 {QUICK}")
    assert outcome.status == 0, outcome.error
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["rule"] == "auto"
    assert summary["criterion"] == "returns"
    families = [row["family"] for row in summary["ranking"]]
    assert sorted(families) == ["constant", "lstd-fourier", "lstd-polynomial", "lstd-random"]
    assert families[-1] == "constant"
    # The true values rise from −24.667 at the start to −2 before the end.
    value = load_value(tmp_path / "run")(torch.arange(12))
    assert summary["metrics"]["rmsve"]["final"]["mean"] < 0.5
    assert float(value[0]) == pytest.approx(-24.667, abs=1)
    assert float(value[11]) == pytest.approx(-2, abs=1)
    assert summary["value"]["mean"] == pytest.approx(float(value[0]))
    assert summary["ranking"][0]["rmsve"] < 1 < summary["ranking"][-1]["rmsve"]
    # What the report adds is still there after it was printed.
    assert summary["control"]["relative"] < 0.5
    assert summary["noise"]["truth"] == 0
    assert "auto" in outcome.out
    assert "chosen by returns" in outcome.out
    assert (tmp_path / "run/figure.png").stat().st_size > 1000
    assert json.loads((tmp_path / "run/config.json").read_text())["rule"] == ["auto"]


def test_a_log_is_valued_on_raw_observations_and_by_no_truth(evaluate, tmp_path, write_clock):
    write_clock(episodes=60)
    outcome = evaluate(f"--data clock.npz --gamma 0.9 {QUICK}")
    assert outcome.status == 0, outcome.error
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["metrics"] == {}
    assert "RMSVE" not in outcome.out
    left = np.arange(1, 13)
    values = load_value(tmp_path / "run")(np.stack([left, np.ones(12)], 1))
    exact = torch.tensor((1 - 0.9**left) / 0.1)
    torch.testing.assert_close(values, exact, rtol=0, atol=0.3, check_dtype=False)


def test_values_that_the_data_cannot_tell_from_a_constant_are_warned_of(evaluate, tmp_path):
    draws = np.random.default_rng(0)
    np.savez(
        tmp_path / "noise.npz",
        observation=draws.normal(size=(200, 2)),
        action=np.zeros(200, dtype=np.int64),
        reward=draws.normal(size=200),
        terminated=np.ones(200, dtype=bool),
        truncated=np.zeros(200, dtype=bool),
    )
    outcome = evaluate(f"--data noise.npz {QUICK}")
    assert outcome.status == 0, outcome.error
    assert "warning: the data cannot tell these values from a constant" in outcome.out
    assert (
        "warning: the data" not in evaluate(f"--problem boyan --steps 1000 {QUICK} --overwrite").out
    )


def test_the_same_seed_gives_the_same_values(evaluate, tmp_path, write_clock):
    write_clock(episodes=30)
    for folder in ("one", "two"):
        assert evaluate(f"--data clock.npz --updates 5 --out {folder}").status == 0
    at = torch.tensor([[3.0, 1.0], [9.0, 1.0]])
    one, two = (load_value(tmp_path / folder)(at) for folder in ("one", "two"))
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--problem boyan --budget 0", "--budget 0 is not allowed"),
        ("--problem boyan --budget nan", "--budget nan is not allowed"),
        ("--problem boyan --updates -1", "--updates -1 is not allowed"),
        ("--problem boyan --data log.npz", "exclude each other: give one"),
        ("--seed 3", "--problem must be given, or --data in its place"),
        ("--problem boyan --runs 3", "--runs 3 has no effect with --rule auto"),
        ("--problem boyan --lambda 0.5", "--lambda 0.5 has no effect with --rule auto"),
        ("--problem boyan --dtype float64", "--dtype float64 has no effect with --rule auto"),
        ("--problem boyan --rule td --budget 9", "--budget 9.0 has no effect with --rule td"),
        ("--problem boyan --preset on-policy --updates 9", "--updates 9 has no effect with"),
        ("--problem boyan --resume", "--out run does not exist"),
        ("--data clock.npz --steps 7", "--steps 7 has no effect with --data and --rule auto"),
        ("--data clock.npz", "holds 1 episode or independent block of 12 transitions"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_no_folder(
    evaluate, tmp_path, line, said, write_clock
):
    write_clock(episodes=1)
    outcome = evaluate(f"{line} --out run")
    assert outcome.status == 2
    assert outcome.out == ""
    assert len(outcome.lines) == 1, outcome.error
    assert said in outcome.error
    assert not (tmp_path / "run").exists()


def test_auto_stands_next_to_rules_in_one_table_and_one_figure(evaluate, tmp_path):
    line = "--problem boyan --rule auto td --runs 3 --steps 700 --measure-every 350 --updates 0"
    outcome = evaluate(f"{line} --out run")
    assert outcome.status == 0, outcome.error
    summaries = json.loads((tmp_path / "run/summary.json").read_text())
    assert list(summaries) == ["auto", "td"]
    assert [summaries[name]["runs"] for name in summaries] == [1, 3]
    errors = [summaries[name]["metrics"]["rmsve"]["final"]["mean"] for name in summaries]
    assert errors[0] < errors[1]
    assert (tmp_path / "run/figure.png").read_text() == "Policy evaluation on boyan auto td"
    assert "auto  0." in outcome.out
    assert "chosen by returns" in outcome.out
    # Alone it learns from the same transitions.
    assert evaluate("--problem boyan --steps 700 --updates 0 --out alone").status == 0
    alone = json.loads((tmp_path / "alone/summary.json").read_text())
    assert alone["metrics"] == summaries["auto"]["metrics"]
    assert alone["ranking"] == summaries["auto"]["ranking"]


def test_auto_next_to_rules_learns_from_their_part_of_a_log(evaluate, tmp_path, write_clock):
    write_clock(episodes=50)
    line = "--data clock.npz --gamma 0.9 --rule td auto --runs 2 --steps 20 --updates 0"
    assert evaluate(f"{line} --out run").status == 0
    summaries = json.loads((tmp_path / "run/summary.json").read_text())
    assert summaries["auto"]["steps"] == 480
    assert summaries["td"]["steps"] == 20


def test_a_finished_search_is_shown_again_on_resume_and_a_longer_one_is_made(evaluate, tmp_path):
    line = "--problem boyan --steps 700 --updates 0 --out run"
    first = evaluate(line)
    kept = ("summary.json", "value.pt", "metrics.csv", "checkpoint.pt", "figure.png")
    before = [(tmp_path / "run" / name).read_bytes() for name in kept]
    again = evaluate(f"{line} --resume --vector pdf")
    assert again.status == 0, again.error
    assert (tmp_path / "run/figure.pdf").exists()
    # But for the line with the seconds.
    assert again.out.splitlines()[:-1] == first.out.splitlines()[:-1]
    assert [(tmp_path / "run" / name).read_bytes() for name in kept] == before
    longer = evaluate(f"{line.replace('700', '900')} --resume")
    assert longer.status == 0, longer.error
    assert read(tmp_path / "run/metrics.csv").steps.tolist() == [700, 900]
    assert evaluate("--problem boyan --steps 900 --updates 0 --out whole").status == 0
    at = torch.arange(12)
    one, other = (load_value(tmp_path / name)(at) for name in ("run", "whole"))
    assert torch.equal(one, other)


def test_a_long_search_says_on_standard_error_what_it_is_at(evaluate, monkeypatch):
    monkeypatch.setattr(PartsProgress, "SOON", 0.0)
    monkeypatch.setattr(PartsProgress, "EVERY", 0.0)
    outcome = evaluate("--problem boyan --steps 700 --updates 3 --out run")
    assert outcome.status == 0, outcome.error
    said = [line.partition(", after ")[0] for line in outcome.lines]
    in_turn = [
        *("lstd-random at scale 1", "lstd-fourier at scale 4", "updates of bodies: 0 of 3"),
        *("updates of bodies: 3 of 3", "stackelberg-td with λ 1 of the body", "choice"),
    ]
    assert [line for line in said if line in in_turn] == in_turn


def test_tensorboard_shows_the_choice(evaluate, tmp_path):
    assert evaluate(f"--problem boyan --steps 1000 {QUICK}").status == 0
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    (error,) = events.Scalars("error/rmsve")
    assert error.step == 1000
    assert error.value == pytest.approx(summary["metrics"]["rmsve"]["final"]["mean"])
    (value,) = events.Scalars("value/starts")
    assert value.value == pytest.approx(summary["value"]["mean"])
    for row in summary["ranking"]:
        (score,) = events.Scalars(f"held_out_error/{row['family']}")
        assert score.value == pytest.approx(row["held_out_error"])
