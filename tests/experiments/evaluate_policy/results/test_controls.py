import json

import pytest

from experiments.evaluate_policy.results.controls import control_lines


def test_errors_are_told_in_the_spread_of_the_true_values(evaluate, tmp_path):
    outcome = evaluate(
        "--problem boyan --rule td constant --runs 2 --steps 300 --head-step 0.2 --compile off "
        "--features given --out run"
    )
    assert outcome.status == 0, outcome.error
    summaries = json.loads((tmp_path / "run/summary.json").read_text())
    td, constant = (summaries[rule]["control"] for rule in ("td", "constant"))
    # v falls from −24.667 to −2 and is about linear; the weighting is about uniform.
    assert td["spread"] == constant["spread"] == pytest.approx(7, abs=1)
    error = summaries["td"]["metrics"]["rmsve"]["final"]["mean"]
    assert td["relative"] == pytest.approx(error / td["spread"])
    assert td["relative"] < 0.9 < constant["relative"]
    assert f"td {td['relative']:.2f}, constant {constant['relative']:.2f}; 1 is the" in outcome.out
    alone = json.loads((tmp_path / "run/td/summary.json").read_text())
    assert alone["control"] == td


def test_values_that_learn_nothing_are_worse_than_a_constant_and_have_not_left_0(evaluate):
    outcome = evaluate(
        "--problem boyan --rule td --runs 2 --steps 50 --head-step 0 --body-step 0 --compile off "
        "--out run"
    )
    assert outcome.status == 0, outcome.error
    assert "warning: td: its values are worse than the best constant" in outcome.error
    assert "warning: td: V is close to 0: its root mean square is 0, that of the" in outcome.error


@pytest.mark.parametrize(("episodes", "size"), [(30, "7.3"), (1, "6.2")])
def test_a_log_is_told_of_values_at_0_by_its_returns(evaluate, write_clock, episodes, size):
    write_clock(episodes)
    flags = "--gamma 1 --runs 1 --steps 20 --head-step 0 --compile off --out run"
    outcome = evaluate(f"--data clock.npz --rule td {flags}")
    assert outcome.status == 0, outcome.error
    # Returns from 1 to 12 have the mean 6.5 and the deviation 3.45: √(6.5² + 3.45²) = 7.36. Of one
    # episode the first 10 rows are learned from, whose returns up to the cut are 1 to 10.
    line = next(each for each in outcome.error.splitlines() if each.startswith("warning"))
    assert line.startswith("warning: td: V is close to 0: its root mean square is 0, that of the")
    assert f"returns in the data {size}" in line


def test_no_line_is_printed_where_nothing_is_known():
    row = {"spread": None, "relative": None, "size": 5.0, "expected": 6.0}
    assert control_lines({"td": row}) == []
    flat = {"spread": 0.0, "relative": None, "size": 0.0, "expected": 0.0}
    assert control_lines({"tdc": flat}) == []
