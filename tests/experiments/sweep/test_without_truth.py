"""Studies of environments from which no true values can be had."""

from tests.experiments.evaluate_policy.test_as_they_are import CLOCK
from tests.experiments.sweep.small_study import rows_of

TINY = (
    "--rule td --steps 5 --runs 2 --body-steps 2^-4 2^-3 --ratios 1 --held-out 20 --width 3 "
    "--workers 1 --compile off --out study"
)


def test_a_study_says_what_it_wants_where_there_is_no_truth(study, tmp_path):
    (tmp_path / "study_clock.py").write_text(CLOCK.replace("LIMIT", "patience"))
    line = f"--problem study_clock:Clock {TINY}"
    status, _, error = study(f"{line} --truth-states 3 --truth-rollouts 2")
    assert status == 2
    assert "cuts its episodes by a limit of its own" in error
    assert error.strip().endswith(
        "study it with --truth-states 0, and --select by an error that needs no truth"
    )
    assert not (tmp_path / "study").exists()
    status, _, error = study(f"{line} --truth-states 0")
    assert status == 2
    assert "does not measure it, it needs the true value" in error
    assert not (tmp_path / "study").exists()
    status, out, error = study(f"{line} --truth-states 0 --select final_rmspbe")
    assert status == 0, error
    assert "RMSPBE" in out
    row, *_ = rows_of(tmp_path / "study" / "selected-final_rmspbe.csv")
    # Twenty transitions leave much noise, and it is said how much.
    floor = float(row["noise_rmspbe_floor"])
    assert floor > 0
    assert "noise_rmspbe_floor_difference" not in row
    assert "An RMSPBE below its noise cannot be told from 0: td " in out
