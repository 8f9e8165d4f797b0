"""Adam, averaging, the limit of norms, the linear schedule, LayerNorm and the scale of rewards."""

import json

import pytest
import torch

from envs.finite.finite_mdp import chain
from envs.finite.standard_problems import problem
from experiments.evaluate_policy.parts.plan import evaluation_plan
from experiments.evaluate_policy.settings.evaluation_settings import read_evaluation_settings
from neural_tdc import load_value

TINY = "--problem garnet --rule tdc --runs 2 --steps 12 --measure-every 4 --compile off"
FULL = (
    "--optimizer adam sgd rmsprop --max-grad-norm 0.5 --average all --average-after 3 "
    "--layer-norm --reward-scale auto --body-step 0.01 --head-step 0.05"
)


def measured(folder):
    return (folder / "metrics.csv").read_bytes()


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    "flags",
    [
        "--optimizer adam",
        "--optimizer sgd adam sgd",
        "--max-grad-norm 0.01",
        "--average head",
        "--average all --average-after 5",
        "--schedule linear",
        "--layer-norm",
        "--reward-scale 4",
    ],
)
def test_each_flag_changes_what_is_learned(evaluate, tmp_path, flags):
    assert evaluate(f"{TINY} --out plain").status == 0
    assert evaluate(f"{TINY} {flags} --out other").status == 0
    assert measured(tmp_path / "plain") != measured(tmp_path / "other")


def test_all_of_them_resume_to_the_bits_of_the_whole_run(evaluate, tmp_path):
    longer = TINY.replace("--steps 12", "--steps 20")
    assert evaluate(f"{longer} {FULL} --out whole").status == 0
    assert evaluate(f"{TINY} {FULL} --out parts").status == 0
    assert config_of(tmp_path / "parts")["optimizer"] == ["adam", "sgd", "rmsprop"]
    before = config_of(tmp_path / "parts")["rewards_divided_by"]
    assert evaluate(f"{longer} {FULL} --out parts --resume").status == 0
    assert config_of(tmp_path / "parts")["rewards_divided_by"] == before
    observation = torch.randn(5, 30)
    whole, parts = (load_value(tmp_path / out) for out in ("whole", "parts"))
    if config_of(tmp_path / "whole")["rewards_divided_by"] == before:
        assert torch.equal(whole(observation), parts(observation))
    # With a scale that is a number nothing depends on the length of the first stream.
    fixed = FULL.replace("auto", "2.5")
    assert evaluate(f"{longer} {fixed} --out all").status == 0
    assert evaluate(f"{TINY} {fixed} --out some").status == 0
    assert evaluate(f"{longer} {fixed} --out some --resume").status == 0
    every, some = (load_value(tmp_path / out) for out in ("all", "some"))
    assert torch.equal(every(observation), some(observation))
    assert (tmp_path / "all/metrics.csv").read_text().splitlines()[-1] == (
        (tmp_path / "some/metrics.csv").read_text().splitlines()[-1]
    )


def test_the_saved_values_are_averaged_and_in_the_unit_of_the_rewards(evaluate, tmp_path):
    # RMSVE at the end is that of the saved values: with exact errors both can be compared.
    line = "--problem random-walk-tabular --features given --rule td --runs 2 --steps 40"
    flags = "--measure-every 40 --head-step 0.5 --average head --reward-scale 0.25"
    assert evaluate(f"{line} {flags} --compile off --out run").status == 0
    value = load_value(tmp_path / "run")
    known = chain(problem("random-walk-tabular"))
    values = value.of_runs(torch.arange(5)).double()
    expected = (known.weighting * (values - known.value()).square()).sum(1).sqrt().mean()
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["metrics"]["rmsve"]["final"]["mean"] == pytest.approx(float(expected), rel=1e-5)


def test_a_run_whose_steps_reach_0_cannot_be_made_longer(evaluate, tmp_path):
    assert evaluate(f"{TINY} --schedule linear --out run").status == 0
    before = measured(tmp_path / "run")
    longer = TINY.replace("--steps 12", "--steps 20")
    outcome = evaluate(f"{longer} --schedule linear --out run --resume")
    assert outcome.status == 2
    assert outcome.error.startswith(
        "error: --steps 20: with --schedule linear the step sizes reach"
    )
    assert outcome.error.count("\n") == 1
    assert measured(tmp_path / "run") == before
    assert evaluate(f"{TINY} --schedule linear --out run --resume").status == 0


@pytest.mark.parametrize(
    ("flags", "hinted"),
    [
        ("", True),
        ("--body envs.finite.counterexamples:spiral_body", True),
        ("--body envs.finite.counterexamples:spiral_body --head-step 0", False),
    ],
)
def test_the_spiral_says_with_which_flags_td_diverges_on_it(flags, hinted):
    settings = read_evaluation_settings(f"--problem spiral --rule td {flags}".split())
    warnings = evaluation_plan(settings).warnings
    assert any("--head-step 0" in line for line in warnings) == hinted


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--rule tdc --average-after 5", "--average-after 5 has no effect without --average"),
        ("--rule tdc --average mean", "--average 'mean' is not one of none, head, all"),
        ("--rule tdc --average all --average-after -1", "--average-after -1 is not allowed"),
        (
            "--rule tdc --average head --steps 20 --average-after 20",
            "--average-after 20 leaves out all 20 updates of a run; give at most 19",
        ),
        ("--rule frozen+lstd --optimizer adam", "--optimizer adam has no effect on the body and"),
        (
            "--rule semi_gradient+lstd semi_gradient+td --optimizer sgd adam rmsprop",
            "--optimizer sgd adam rmsprop has no effect on the auxiliary with --rule semi_gradient",
        ),
        (
            "--rule td --features given --optimizer adam sgd sgd",
            "--optimizer adam sgd sgd has no effect on the body with --rule td",
        ),
        ("--rule tdc --max-grad-norm 0", "--max-grad-norm 0 is not allowed: give a finite number"),
        ("--rule frozen+lstd --max-grad-norm 1", "--max-grad-norm 1.0 has no effect with --rule"),
        ("--rule tdc --reward-scale 0", "--reward-scale '0' is not auto, none or"),
        ("--rule tdc --features given --layer-norm", "--layer-norm has no effect with --features"),
        ("--rule auto --average all", "--average all has no effect with --rule auto"),
        ("--rule auto --reward-scale auto", "--reward-scale auto has no effect with --rule auto"),
    ],
)
def test_what_is_not_allowed_or_has_no_effect_is_refused_in_one_line(evaluate, flags, said):
    outcome = evaluate(f"--problem boyan {flags} --out run")
    assert outcome.status == 2
    assert outcome.error.startswith(f"error: {said}"), outcome.error
    assert outcome.error.count("\n") == 1
