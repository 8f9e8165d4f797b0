"""λ on the command line: --lambda with traces and sequences, and what it is refused with."""

import json

import numpy as np
import pytest

from experiments.runs.results.history import read

LINE = "--problem boyan --features given --runs 2 --steps 60 --measure-every 60 --compile off"
THREE = "td tdc frozen+lstd"


def final(folder, rule):
    history = read(folder / rule / "metrics.csv")
    return history.values("error/rmsve")[-1]


def test_three_rules_learn_with_traces_and_differ_from_those_without(evaluate, tmp_path):
    for decay in ("0", "0.8"):
        outcome = evaluate(f"{LINE} --lambda {decay} --rule {THREE} --head-step 0.05 --out {decay}")
        assert outcome.status == 0, outcome.error
        config = json.loads((tmp_path / decay / "config.json").read_text())
        assert config["lambda_"] == float(decay)
    for rule in THREE.split():
        without, traced = (final(tmp_path / decay, rule) for decay in ("0", "0.8"))
        assert np.isfinite(traced).all()
        assert (without != traced).all()
    # On-policy traces carry rewards back over several steps at once.
    assert (final(tmp_path / "0.8", "td") < final(tmp_path / "0", "td")).all()
    names = read(tmp_path / "0.8" / "tdc" / "metrics.csv").names
    assert "tracking_error/auxiliary" not in names
    assert "tracking_error/head" in names


def test_lambda_zero_leaves_every_number_as_it_is_without_the_flag(evaluate, tmp_path):
    assert evaluate(f"{LINE} --rule tdc --out without").status == 0
    assert evaluate(f"{LINE} --rule tdc --lambda 0 --out zero").status == 0
    without, zero = ((tmp_path / out / "metrics.csv").read_text() for out in ("without", "zero"))
    assert without == zero


def test_a_resumed_run_keeps_its_traces_and_its_lambda(evaluate, tmp_path):
    rest = "--problem boyan --features given --runs 2 --measure-every 10 --compile off --rule tdc"
    assert evaluate(f"{rest} --lambda 0.8 --steps 60 --out whole").status == 0
    assert evaluate(f"{rest} --lambda 0.8 --steps 30 --out run").status == 0
    outcome = evaluate(f"{rest} --steps 60 --out run --resume")
    assert outcome.status == 2
    assert "--lambda 0.0 differs from the 0.8" in outcome.error
    assert evaluate(f"{rest} --lambda 0.8 --steps 60 --out run --resume").status == 0
    whole, run = (read(tmp_path / out / "metrics.csv") for out in ("whole", "run"))
    assert np.array_equal(whole.values("error/rmsve")[-1], run.values("error/rmsve")[-1])


def test_a_body_that_learns_takes_lambda_by_sequences_and_can_be_resumed(evaluate, tmp_path):
    rest = (
        "--problem random-walk-dependent --rule tdrc semi_gradient+lstd --sampling sequences "
        "--sequence-length 5 --batch 3 --runs 2 --measure-every 10 --compile off --body-step 0.05 "
        "--dtype float64"
    )
    assert evaluate(f"{rest} --lambda 0.8 --steps 60 --out whole").status == 0
    assert evaluate(f"{rest} --lambda 0.8 --steps 30 --out run").status == 0
    outcome = evaluate(f"{rest} --lambda 0.8 --steps 60 --out run --resume")
    assert outcome.status == 0, outcome.error
    assert evaluate(f"{rest} --steps 60 --out zero").status == 0
    for rule in ("tdrc", "semi_gradient+lstd"):
        whole, run, zero = (final(tmp_path / out, rule) for out in ("whole", "run", "zero"))
        assert np.isfinite(whole).all()
        assert (whole != zero).all()
        assert whole.shape == run.shape


GIVEN = "--problem boyan --features given"
SEQUENCES = "--problem boyan --sampling sequences"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{GIVEN} --rule td --lambda 1.5", "--lambda 1.5 is not allowed: give a number from 0"),
        (f"{GIVEN} --rule td --lambda=-0.1", "--lambda -0.1 is not allowed"),
        (f"{GIVEN} --rule td --lambda nan", "--lambda nan is not allowed"),
        (f"{GIVEN} --rule td --lambda x", "--lambda 'x' is not a number"),
        ("--problem boyan --rule td --lambda 0.8", "or --features given, not neural"),
        ("--problem boyan --rule ttn --lambda 0.8", "or --features given, not neural"),
        *(
            (f"{SEQUENCES} --rule td {rule} --lambda 0.8", f"for the {what} '{rule}'")
            for rule, what in (("etd", "head"), ("ttn", "rule"))
        ),
        (f"{GIVEN} --rule td --lambda 0.8 --batch 2", "--batch 1, not markov and 2"),
        (f"{GIVEN} --rule td --lambda 0.8 --sampling iid", "not iid and 1"),
        (f"{GIVEN} --rule td --lambda 0.8 --sampling replay", "not replay and 1"),
        *(
            (f"{GIVEN} --rule td {rule} --lambda 0.8", f"--rule {rule}")
            for rule in ("vtrace", "etd", "residual", "generalized", "ttn")
        ),
        *(
            (f"{GIVEN} --rule {rule} --lambda 0.8", "--lambda 0.8 is not defined for --rule")
            for rule in ("nonlinear-tdc", "nonlinear-gtd2", "own:rule")
        ),
    ],
)
def test_lambda_is_refused_in_one_line_where_it_is_not_defined(evaluate, tmp_path, line, said):
    outcome = evaluate(f"{line} --out run")
    assert (outcome.status, outcome.out, len(outcome.lines)) == (2, "", 1), outcome.error
    assert outcome.error.startswith("error: --lambda ")
    assert said in outcome.error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{SEQUENCES} --rule td --sequence-length 0", "--sequence-length 0 is not allowed"),
        (
            f"{GIVEN} --rule td --sequence-length 4",
            "--sequence-length 4 has no effect with --sampl",
        ),
        (
            "--data clock.npz --sampling sequences --rule td --sequence-length 900 --runs 1",
            "--sequence-length 900 is more than the",
        ),
        (
            "--problem boyan --rule fitted --updates 0",
            "--updates 0 with --rule fitted: updates is 0; it must be at least 1",
        ),
    ],
)
@pytest.mark.usefixtures("clock_log")
def test_a_length_that_cannot_be_is_refused_in_one_line(evaluate, tmp_path, line, said):
    outcome = evaluate(f"{line} --out run")
    assert (outcome.status, outcome.out, len(outcome.lines)) == (2, "", 1), outcome.error
    assert said in outcome.error
    assert not (tmp_path / "run").exists()
