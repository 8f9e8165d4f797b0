"""Rules and runs of one command learn from the same experience, and do not disturb each other."""

import numpy as np
import torch

from experiments.runs.results.history import read
from tests.experiments.evaluate_policy.command_lines import RUN_FILES, TINY, WALK
from tests.experiments.run_files import leaves, names, strict


def test_several_rules_have_a_folder_each_and_a_common_figure_and_summary(
    evaluate, tmp_path, monkeypatch
):
    rules = ("tdc", "td", "semi_gradient+lstd")
    assert evaluate(f"{WALK} {TINY} --rule {' '.join(rules)} --out run").status == 0
    common = {"config.json", "summary.json", "figure.png"}
    assert names(tmp_path / "run") == {*common, *rules}
    summaries = strict(tmp_path / "run" / "summary.json")
    assert list(summaries) == list(rules)
    for rule in rules:
        assert names(tmp_path / "run" / rule) == RUN_FILES
        assert strict(tmp_path / "run" / rule / "summary.json") == summaries[rule]
        config = strict(tmp_path / "run" / rule / "config.json")
        assert (config["rule"], config["runs"]) == ([rule], 3)
        drawn = (tmp_path / "run" / rule / "figure.png").read_text()
        assert drawn == f"Policy evaluation on random-walk-tabular: {rule} {rule}"
    config = strict(tmp_path / "run" / "config.json")
    assert (config["rule"], config["folders"]) == (list(rules), list(rules))
    drawn = (tmp_path / "run" / "figure.png").read_text()
    assert drawn == "Policy evaluation on random-walk-tabular " + " ".join(rules)


def test_a_rule_beside_others_does_what_it_does_alone(evaluate, tmp_path):
    assert evaluate(f"{WALK} {TINY} --rule td generalized tdc --out several").status == 0
    assert evaluate(f"{WALK} {TINY} --rule tdc --out alone").status == 0
    beside, alone = tmp_path / "several" / "tdc" / "metrics.csv", tmp_path / "alone" / "metrics.csv"
    assert beside.read_bytes() == alone.read_bytes()


def test_rules_learn_from_the_same_experience_and_initial_values(evaluate, tmp_path):
    # With ω held at 0 and the body still, Algorithm 1's head is TD's, if the experience is.
    steps = "--head-step 0.3 --auxiliary-step 0 --body-step 0"
    assert evaluate(f"{WALK} {TINY} --rule tdc td frozen+td {steps} --out run").status == 0
    tdc, td, frozen = (
        read(tmp_path / "run" / rule / "metrics.csv") for rule in ("tdc", "td", "frozen+td")
    )
    for metric in ("error/rmsve", "error/lstd_rmsve", "norm/body", "norm/head"):
        np.testing.assert_array_equal(tdc.values(metric), td.values(metric), strict=True)
        np.testing.assert_array_equal(tdc.values(metric), frozen.values(metric))
    # Runs are different ones, and they learn.
    assert len({*td.last("error/rmsve")}) == 3


def test_step_sizes_of_0_leave_every_rule_where_it_began(evaluate, tmp_path):
    steps = "--head-step 0 --body-step 0"
    rules = ("gtd2", "residual", "nonlinear-tdc")
    assert evaluate(f"{WALK} {TINY} --rule {' '.join(rules)} {steps} --out run").status == 0
    errors = [read(tmp_path / "run" / rule / "metrics.csv").values("error/rmsve") for rule in rules]
    for error in errors:
        np.testing.assert_array_equal(error, np.full_like(error, errors[0][0, 0]))


def test_the_same_seed_gives_the_same_bits_and_another_one_others(evaluate, tmp_path):
    line = f"{WALK} {TINY} --rule tdc"
    for name, seed in (("first", 3), ("second", 3), ("other", 4)):
        assert evaluate(f"{line} --seed {seed} --out {name}").status == 0
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    assert (first / "metrics.csv").read_bytes() == (second / "metrics.csv").read_bytes()
    pairs = zip(leaves(first), leaves(second), strict=True)
    assert all(torch.equal(one, another) for one, another in pairs)
    assert (first / "metrics.csv").read_bytes() != (other / "metrics.csv").read_bytes()


def test_a_run_does_not_depend_on_how_many_others_there_are(evaluate, tmp_path):
    line = f"{WALK} --steps 10 --measure-every 4 --rule tdc --dtype float64"
    assert evaluate(f"{line} --runs 2 --out few").status == 0
    assert evaluate(f"{line} --runs 5 --out many").status == 0
    few, many = (read(tmp_path / name / "metrics.csv") for name in ("few", "many"))
    for metric in ("error/rmsve", "norm/body"):
        np.testing.assert_allclose(
            few.values(metric), many.values(metric)[:, :2], rtol=1e-12, atol=0
        )


def test_a_body_step_of_0_is_legal_and_leaves_the_body(evaluate, tmp_path):
    line = f"{WALK} {TINY} --rule tdc --head-step 0.5"
    assert evaluate(f"{line} --body-step 0 --out still").status == 0
    assert evaluate(f"{line} --body-step 0.5 --out moving").status == 0
    still, moving = (
        read(tmp_path / name / "metrics.csv").values("norm/body") for name in ("still", "moving")
    )
    np.testing.assert_array_equal(still, np.broadcast_to(still[0], still.shape))
    assert np.any(moving[-1] != moving[0])


def test_when_all_runs_diverge_there_are_nulls_one_warning_and_status_0(evaluate, tmp_path):
    line = "--problem baird --features given --head-step 1e6 --runs 2 --steps 30 --compile off"
    outcome = evaluate(f"{line} --measure-every 10 --rule td --out run", figure=True)
    assert outcome.status == 0, outcome.error
    warnings = [each for each in outcome.lines if "diverged" in each]
    assert warnings == [
        "warning: td: all 2 runs diverged, so there are no results; smaller step sizes may help"
    ]
    assert "2 of 2" in outcome.out
    # There is no value function to load.
    assert "load_value" not in outcome.out
    summary = strict(tmp_path / "run" / "summary.json")
    assert summary["diverged"] == 2
    none = {"mean": None, "low": None, "high": None, "median": None}
    assert summary["metrics"]["rmsve"] == {"final": none, "auc": none}
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert rows[-1].startswith("30,1,1,,")
    assert (tmp_path / "run" / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_a_rule_that_diverges_leaves_the_others_their_results(evaluate, tmp_path):
    line = "--problem baird --features given --head-step 1e6 --runs 2 --steps 30 --compile off"
    outcome = evaluate(f"{line} --rule td frozen+lstd --out run")
    assert outcome.status == 0
    summaries = strict(tmp_path / "run" / "summary.json")
    assert [summaries[rule]["diverged"] for rule in ("td", "frozen+lstd")] == [2, 0]
    assert summaries["frozen+lstd"]["metrics"]["rmspbe"]["final"]["mean"] >= 0
    assert sum("diverged, so" in each for each in outcome.lines) == 1


def test_given_features_begin_at_the_head_that_the_problem_prescribes(evaluate, tmp_path):
    line = "--problem baird --features given --head-step 0 --runs 2 --steps 2 --compile off"
    assert evaluate(f"{line} --rule tdc --out run").status == 0
    history = read(tmp_path / "run" / "metrics.csv")
    np.testing.assert_allclose(history.values("norm/head"), np.sqrt(107), rtol=1e-6)
    assert strict(tmp_path / "run" / "config.json")["width"] == 8
