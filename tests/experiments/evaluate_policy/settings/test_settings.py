"""What a user can get wrong on the command line: status 2, one line, no folder."""

import importlib.util

import pytest
import torch

TINY = "--steps 3 --runs 2 --compile off"
RULES = "tdc, td, gtd2, tdrc, htd, vtrace, etd, residual, generalized, ttn"
STEP = "is not allowed: give a finite number of at least 0"

REFUSED = [
    # A value that is not allowed
    ("--problem boyan --rule tdc --head-step -1", "--head-step -1 " + STEP),
    ("--problem boyan --rule tdc --head-step=-1", "--head-step -1 " + STEP),
    ("--problem boyan --rule tdc --auxiliary-step -1e-3", "--auxiliary-step -0.001 " + STEP),
    ("--problem boyan --rule tdc --body-step nan", "--body-step nan " + STEP),
    ("--problem boyan --rule tdc --body-step inf", "--body-step inf " + STEP),
    ("--problem boyan --rule tdc --body-step 1e39", "--body-step 1e+39", "at most 3e+38"),
    ("--problem boyan --rule tdc --ridge -1", "--ridge -1 " + STEP),
    ("--problem boyan --rule tdc --epsilon nan", "--epsilon nan " + STEP),
    ("--problem boyan --rule tdc --steps 0", "--steps 0 is not allowed", "at least 1"),
    ("--problem boyan --rule tdc --steps -5", "--steps -5 is not allowed", "at least 1"),
    (
        "--problem boyan --rule tdc --steps 1e4",
        "--steps '1e4' is not a whole number; did you mean 10000?",
    ),
    (
        "--problem boyan --rule tdc --runs 1,000",
        "--runs '1,000' is not a whole number; did you mean 1000?",
    ),
    ("--problem boyan --rule tdc --gamma 0,9", "--gamma '0,9' is not a number; did you mean 0.9?"),
    ("--problem boyan --rule tdc --runs 0", "--runs 0 is not allowed", "at least 1"),
    ("--problem boyan --rule tdc --batch 0", "--batch 0 is not allowed", "at least 1"),
    ("--problem boyan --rule tdc --measure-every 0", "--measure-every 0 is not allowed"),
    ("--problem boyan --rule tdc --hidden 1.5", "--hidden '1.5' is not a whole number"),
    ("--problem boyan --rule tdc --width 0", "--width 0 is not allowed", "at least 1"),
    ("--problem boyan --rule tdc --hidden 4 0", "--hidden 0 is not allowed", "at least 1"),
    ("--problem boyan --rule tdc --seed -1", "--seed -1 is not allowed", "at least 0"),
    ("--problem boyan --rule tdc --gamma 1.5", "--gamma 1.5 is not allowed", "from 0 to 1"),
    ("--problem boyan --rule tdc --gamma -0.1", "--gamma -0.1 is not allowed", "from 0 to 1"),
    ("--problem boyan --rule tdc --gamma nan", "--gamma nan is not allowed", "from 0 to 1"),
    ("--problem baird --rule tdc --gamma 1", "--problem baird --gamma 1:", "never ends"),
    ("--problem CartPole-v1 --rule td --truth-rollouts 1", "--truth-rollouts 1", "at least 2"),
    ("--problem CartPole-v1 --rule td --held-out 1", "--held-out 1", "at least 2"),
    ("--problem boyan --rule tdc --optimizer lion", "--optimizer 'lion'", "sgd, rmsprop, adam"),
    ("--problem boyan --rule tdc --optimizer sgd rmsprop", "--optimizer sgd rmsprop: give one"),
    ("--problem boyan --rule tdc --optimizer", "--optimizer: give one name, or three"),
    ("--problem boyan --rule tdc --schedule cosine", "--schedule", "'cosine'", "linear, constant"),
    ("--problem boyan --rule tdc --schedule polynomial:2", "--schedule", "between 0 and 1"),
    ("--problem boyan --rule tdc --constraint box:-1", "--constraint", "'box:-1'", "ball:R"),
    ("--problem boyan --rule tdc --sampling all", "--sampling 'all'", "markov, iid, replay"),
    ("--problem boyan --rule tdc --dtype half", "--dtype 'half'", "float32, float64"),
    ("--problem boyan --rule tdc --compile no", "--compile 'no'", "auto, on, off"),
    ("--problem boyan --rule tdc --device tpu", "--device 'tpu'", "auto, cpu, cuda"),
    ("--problem boyan --rule tdc --activation tan", "--activation 'tan'", "mean tanh?"),
    # Names
    ("--problem boyann --rule tdc", "--problem 'boyann'", "did you mean boyan"),
    ("--problem cartpole --rule tdc", "--problem 'cartpole'", "did you mean CartPole-v1"),
    ("--problem CartPole-v9 --rule tdc", "--problem 'CartPole-v9'", "CartPole-v1"),
    ("--problem garnet-x --rule tdc", "--problem garnet-x", "did you mean garnet?"),
    ("--problem '' --rule tdc", "--problem ''"),
    ("--problem nothing:at_all --rule tdc", "--problem nothing:at_all", "no module nothing"),
    ("--problem nothing:Env-v0 --rule td", "--problem nothing:Env-v0", "No module named 'nothing'"),
    ("--problem nothing: --rule tdc", "--problem 'nothing:'", "module:function"),
    ("--problem os:nope --rule tdc", "--problem os:nope", "os has no nope"),
    ("--problem Nope/Pong-v5 --rule tdc", "--problem Nope/Pong-v5", "install the package"),
    ("--problem boyan --rule tcd", "--rule", "'tcd'", RULES, "did you mean td or tdc"),
    ("--problem boyan --rule ''", "--rule", "''", RULES),
    ("--problem boyan --rule semi_gradiant+lstd", "--rule", "(did you mean semi_gradient?)"),
    ("--problem boyan --rule semi_gradient+lst", "--rule", "(did you mean lstd?)"),
    ("--problem boyan --rule mspbe+etd", "--rule", "'mspbe+etd'", "semi_gradient and frozen only"),
    ("--problem boyan --rule tdc --body mpl", "--body 'mpl'", "mlp, paper_atari, nature_atari"),
    ("--problem boyan --rule tdc --policy soft", "--policy 'soft'", "uniform, module:function"),
    ("--problem CartPole-v1 --rule td --policy x", "--policy x", "default, soft, uniform"),
    # What does not go together
    ("--problem boyan --rule tdc tdc", "--rule names tdc 2 times"),
    ("--problem boyan --rule tdc --rule td", "--rule is given 2 times"),
    ("--problem boyan --rule td --seed 1 --seed=2", "--seed is given 2 times"),
    ("--problem boyan --rule " + 300 * "x", "--rule: rule '" + 300 * "x"),
    ("--problem " + 300 * "x" + " --rule td", "--problem '" + 300 * "x"),
    ("--problem boyan --rule " + 300 * "x" + ":f", "no module " + 100 * "x", "…"),
    ("--problem boyan --rule etd --sampling replay", "--rule etd", "markov and --batch 1"),
    ("--problem boyan --rule etd --batch 2", "--rule etd", "not markov and 2"),
    ("--problem boyan --rule frozen+etd --sampling iid", "--rule frozen+etd", "not iid and 1"),
    ("--problem CartPole-v1 --rule td --features given", "--features given", "CartPole-v1"),
    ("--problem boyan --rule ttn --features given", "--rule ttn learns a body"),
    ("--problem boyan --rule nonlinear-tdc --ridge 1", "--ridge 1", "--rule nonlinear-tdc"),
    ("--problem boyan --rule td --width 1 --constant-feature", "--width 1", "--constant-feature"),
    ("--problem boyan --rule td --body nature_atari", "--body nature_atari", "shape (12,)"),
    ("--problem boyan --rule td --resume --overwrite", "--resume and --overwrite exclude"),
    # Flags without an effect
    (
        "--problem boyan --rule td --replay-window 9",
        "--replay-window 9 has no effect with --sampling markov, only with replay",
    ),
    ("--problem boyan --rule tdc td --psi fourier", "--psi fourier has no effect", "tdc td"),
    ("--problem boyan --rule tdc --psi-width 8", "--psi-width 8 has no effect with --rule tdc"),
    (
        "--problem boyan --rule generalized --psi observation --psi-width 8",
        "--psi-width 8 has no effect with --psi observation",
    ),
    ("--problem boyan --rule tdc --lstd-window 9", "--lstd-window 9 has no effect", "lstd head"),
    ("--problem boyan --rule tdc --lstd-epsilon 1", "--lstd-epsilon 1.0 has no effect"),
    ("--problem boyan --rule td htd --epsilon 0.1", "--epsilon 0.1 has no effect", "td htd"),
    ("--problem boyan --rule frozen+lstd --ridge 0.1", "--ridge 0.1 has no effect"),
    ("--problem boyan --rule td --truth-states 9", "--truth-states 9 has no effect on boyan"),
    ("--problem boyan --rule td --truth-rollouts 9", "--truth-rollouts 9 has no effect"),
    ("--problem boyan --rule td --ratio-limit 9", "--ratio-limit 9.0 has no effect on boyan"),
    ("--problem CartPole-v1 --rule td --ratio-limit 9", "no effect without --behaviour"),
    ("--problem CartPole-v1 --rule td --ratio-limit 0", "--ratio-limit 0 is not allowed", "above"),
    (
        "--problem CartPole-v1 --rule td --truth-states 0 --truth-rollouts 9",
        "--truth-rollouts 9 has no effect with --truth-states 0",
    ),
    ("--problem boyan --rule td --held-out 9", "--held-out 9 has no effect", "exact"),
    ("--problem boyan --rule td --features given --hidden 4 3", "--hidden 4 3 has no effect"),
    ("--problem boyan --rule td --features given --width 3", "--width 3 has no effect"),
    ("--problem boyan --rule td --features given --body paper_atari", "--body paper_atari has no"),
    ("--problem boyan --rule td --body paper_atari --activation relu", "--activation relu has no"),
    (
        "--problem boyan --rule td --body paper_atari --constant-feature",
        "--constant-feature has no effect with --body paper_atari",
    ),
    # What is missing or unknown
    ("--problem boyan --head-step 0.1", "--head-step 0.1 has no effect with --rule auto"),
    ("--rule tdc", "--problem must be given"),
    ("--problem boyan --rule", "--rule is given without a value; give one or several"),
    ("--problem boyan --rule tdc --nope 3", "unknown on the command line: --nope 3; did you mean"),
]


def refused(outcome, *said):
    assert outcome.status == 2
    assert outcome.out == ""
    assert len(outcome.lines) == 1, outcome.error
    assert outcome.error.startswith("error: ")
    for part in said:
        assert part in outcome.error
    return outcome.error


@pytest.mark.parametrize(("line", "said"), [(line, said) for line, *said in REFUSED])
def test_a_usage_error_is_one_line_with_status_2_and_leaves_no_folder(
    evaluate, tmp_path, line, said
):
    refused(evaluate(f"{line} --out deep/run"), *said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device on this machine")
def test_a_device_that_is_not_there_is_refused(evaluate, tmp_path):
    refused(evaluate("--problem boyan --rule td --device cuda --out run"), "--device cuda cannot")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(importlib.util.find_spec("ale_py") is not None, reason="ale-py is installed")
def test_an_atari_game_without_ale_py_says_what_to_install(evaluate, tmp_path):
    refused(
        evaluate("--problem ALE/Pong-v5 --rule td --out run"),
        "--problem ALE/Pong-v5",
        "pip install ale-py",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "warned"),
    [
        ("--rule td --auxiliary-step 0.1", "--auxiliary-step 0.1 has no effect"),
        ("--rule frozen+lstd --head-step 0.1", "--head-step 0.1 has no effect"),
        ("--rule frozen+td --body-step 0.1", "--body-step 0.1 has no effect"),
        ("--rule td --features given --body-step 0.1", "--body-step 0.1 has no effect"),
        ("--rule mspbe+lstd", "its body does not learn"),
        ("--rule td --width 12", "--width 12: 12 features span the 12 states of boyan"),
    ],
)
def test_what_stands_still_or_means_little_is_warned_of_once(evaluate, line, warned):
    outcome = evaluate(f"--problem boyan {line} {TINY} --out run")
    assert outcome.status == 0
    said = [each for each in outcome.lines if warned in each]
    assert len(said) == 1, outcome.error
    assert said[0].startswith("warning: ")


@pytest.mark.parametrize(
    "line",
    [
        "--rule tdc --auxiliary-step 0.1 --body-step 0.1 --head-step 0.1 --epsilon 0.1",
        "--rule td ttn --epsilon 0.1 --auxiliary-step 0.1",
        "--rule td generalized --psi fourier --psi-width 5",
        "--rule td semi_gradient+lstd --lstd-window 7 --lstd-epsilon 0.1 --ridge 0.1",
        "--rule nonlinear-tdc --features given --auxiliary-step 0.1",
        "--rule td --sampling replay --replay-window 2",
    ],
)
def test_a_flag_that_one_of_the_rules_heeds_passes_without_a_word(evaluate, line):
    outcome = evaluate(f"--problem boyan {line} {TINY} --out run")
    assert outcome.status == 0
    # Ten updates learn little, which is warned of; that is no word on a flag.
    warned = [line for line in outcome.lines if line.startswith("warning")]
    assert all("worse than the best constant" in line or "is close to 0" in line for line in warned)


def test_the_help_explains_every_flag_and_lists_problems_and_rules(evaluate, capsys):
    with pytest.raises(SystemExit) as left:
        evaluate("--help")
    assert left.value.code == 0
    said = capsys.readouterr().out
    for name in ("--head-step", "--measure-every", "boyan", "Acrobot-v1", "etd", "BODY+HEAD"):
        assert name in said
