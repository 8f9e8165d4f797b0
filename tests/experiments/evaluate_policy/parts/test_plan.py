"""Parts of the user's own: what works, and what is refused in one line that names the part."""

import json

import numpy as np
import pytest
import torch

from experiments.runs.results.history import read
from tests.envs.finite.test_toy_text import TAXI

TINY = "--steps 4 --runs 2 --compile off"
TRUTH = "--truth-states 4 --truth-rollouts 2 --held-out 50"

ENVIRONMENT = """
class Env(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (3,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.np_random.random(3).astype("f"), {}

    def step(self, action):
        self.time += 1
        return self.np_random.random(3).astype("f"), float(action), self.time > 5, False, {}
"""

RULE = """
class Rule(neural_tdc.Rule):
    name = "own"

    def init(self, parameters, observation, generator):
        return parameters._replace(auxiliary={"own": torch.zeros_like(parameters.head)}), {}

    def directions(self, features, parameters, batch, state):
        return parameters
"""


def refused(outcome, folder, *said):
    assert outcome.status == 2
    # Progress is said first where a part takes longer than a second.
    lines = [line for line in outcome.lines if not line.startswith("experience: ")]
    assert len(lines) == 1, outcome.error
    assert lines[0].startswith("error: ")
    for part in said:
        assert part in outcome.error
    assert not folder.exists()


PROBLEMS = [
    ("def made():\n    return 3", "returned a int", "FiniteMDP or a gymnasium.Env"),
    ("def made():\n    raise KeyError('boom')", "KeyError: 'boom'"),
    ("def made():\n    raise SystemExit(3)", "SystemExit: 3"),
    ("def made(size):\n    return size", "TypeError"),
    ("made = 3", "made is of type int, not a function"),
    (
        "from envs.finite.finite_mdp import finite_mdp\n"
        "def made():\n"
        "    rows = [[[.5, .6], [0, 1]], [[1, 0], [0, 1]]]\n"
        "    return finite_mdp(transition=rows, reward=torch.zeros(2, 2, 2), discount=.9)",
        "state 0, action 0 sums to 1.1, but must sum to 1",
    ),
    (
        "from envs.finite.standard_problems import boyan\n"
        "def made():\n"
        "    mdp = boyan()\n"
        "    return mdp._replace(transition=0.9 * mdp.transition)",
        "state 0, action 0 sums to 0.9, but must sum to 1",
    ),
    (
        "from envs.finite.standard_problems import baird\n"
        "def made():\n"
        "    return baird()._replace(discount=1.0)",
        "never ends",
    ),
    (
        ENVIRONMENT + "class made(Env):\n"
        "    observation_space = gymnasium.spaces.Sequence(gymnasium.spaces.Discrete(3))",
        "which has no fixed size",
    ),
    (
        ENVIRONMENT + "class made(Env):\n    observation_space = gymnasium.spaces.Box(-1, 1, (4,))",
        "an observation of shape [3], but its observation space says [4]",
    ),
    (
        ENVIRONMENT + "class made(Env):\n    action_space = gymnasium.spaces.MultiDiscrete([2, 3])",
        "has the action space MultiDiscrete([2 3]); only Discrete and Box",
    ),
    (ENVIRONMENT + "class made(Env):\n    def reset(self):\n        return 0, {}", "TypeError"),
    (
        ENVIRONMENT + "class made(Env):\n"
        "    def step(self, action):\n        raise RuntimeError('motor off')",
        "RuntimeError: motor off",
    ),
    (
        ENVIRONMENT + "class made(Env):\n"
        "    def step(self, action):\n        return self.reset()[0], 0.0, False, {}",
        "returned a tuple of 4 from step; it must return (observation, reward, terminated",
    ),
    (
        ENVIRONMENT + "class made(Env):\n    def step(self, action):\n"
        "        return (super().step(action)[0], float('nan'), False, False, {})",
        "not finite",
    ),
    (ENVIRONMENT + "only = Env()\ndef made():\n    return only", "a new environment at every"),
]


@pytest.mark.parametrize(("source", "said"), [(source, said) for source, *said in PROBLEMS])
def test_a_problem_that_cannot_be_is_refused_by_name(evaluate, own, tmp_path, source, said):
    module = own(source)
    refused(
        evaluate(f"--problem {module}:made --rule td {TINY} --out run"),
        tmp_path / "run",
        f"--problem {module}:made",
        *said,
    )


POLICIES = [
    ("torch.full((len(x), 2), 0.7)", "must be finite, not negative, and sum to 1"),
    ("torch.tensor([[1.5, -0.5]]).repeat(len(x), 1)", "not negative"),
    ("torch.full((len(x), 2), float('nan'))", "must be finite"),
    ("torch.ones(len(x))", "the shape [", "it must return probabilities ["),
    ("None", "returned NoneType"),
    ("x.nope", "AttributeError"),
]


@pytest.mark.parametrize("problem", ["random-walk-tabular", "CartPole-v1"])
@pytest.mark.parametrize("flag", ["--policy", "--behaviour"])
@pytest.mark.parametrize(("answer", "said"), [(answer, said) for answer, *said in POLICIES])
def test_a_policy_that_returns_no_distribution_is_refused(
    evaluate, own, tmp_path, problem, flag, answer, said
):
    module = own(f"def policy(x):\n    return {answer}")
    refused(
        evaluate(f"--problem {problem} {flag} {module}:policy --rule td {TINY} --out run"),
        tmp_path / "run",
        f"{flag} {module}:policy",
        *said,
    )


@pytest.mark.parametrize("problem", ["random-walk-tabular", "CartPole-v1"])
def test_a_ratio_with_behaviour_probability_0_is_refused(evaluate, own, tmp_path, problem):
    module = own("def left(x):\n    return torch.tensor([[1.0, 0.0]]).repeat(len(x), 1)")
    refused(
        evaluate(f"--problem {problem} --behaviour {module}:left --rule td {TINY} --out run"),
        tmp_path / "run",
        f"--problem {problem} --behaviour {module}:left",
        "action 1",
        "never",
    )


def test_emphatic_td_is_refused_where_a_time_limit_cuts_episodes(evaluate, tmp_path):
    line = "--problem MountainCar-v0 --policy uniform --rule td etd --steps 230 --runs 1"
    refused(evaluate(f"{line} {TRUTH} --out run"), tmp_path / "run", "--rule etd", "time limit")


BODIES = [
    ("torch.nn.Flatten()", "Flatten has no parameters to learn"),
    ("None", "returned a NoneType; it must return a torch.nn.Module"),
    ("shape.nope", "AttributeError"),
    ("torch.nn.Linear(shape[0] + 1, 3)", "cannot take observations of shape (5,)"),
    ("torch.nn.Linear(shape[0], 3, device='meta')", "NotImplementedError"),
    ("torch.nn.LazyLinear(3)", "is lazy"),
    ("torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Flatten(0))", "must return features"),
    ("torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(5, 3))", "spectral"),
]


@pytest.mark.parametrize(("made", "said"), [(made, said) for made, *said in BODIES])
def test_a_module_that_cannot_be_a_body_is_refused_by_name(evaluate, own, tmp_path, made, said):
    module = own(f"def body(shape):\n    return {made}")
    refused(
        evaluate(f"--problem random-walk-tabular --body {module}:body --rule td {TINY} --out run"),
        tmp_path / "run",
        f"--body {module}:body",
        *said,
    )


RULES = [
    ("def made():\n    return None", "returned a NoneType; it must return a neural_tdc.Rule"),
    ("def made():\n    raise KeyError('boom')", "KeyError: 'boom'"),
    (RULE + "class made(Rule):\n    def init(self, p, o, g):\n        return p", "unpack"),
    (RULE + "class made(Rule):\n    def init(self, p, o, g):\n        return p, {'n': 3}",),
    (
        RULE + "class made(Rule):\n    def directions(self, *batch):\n        1 / 0",
        "ZeroDivisionError",
    ),
    (RULE + "class made(Rule):\n    def directions(self, *batch):\n        return 3",),
    (
        RULE + "class made(Rule):\n    def update(self, features, parameters, batch, state):\n"
        "        return state if batch.reward.sum() > 0 else {}",
        "data-dependent",
    ),
    (
        RULE + "class made(Rule):\n    def update(self, features, parameters, batch, state):\n"
        "        return {'trace': batch.reward}",
        "an update turns a state of shapes",
    ),
    (RULE + "class made(Rule):\n    def omega(self, parameters):\n        return 5", "TypeError"),
]


@pytest.mark.parametrize(("source", "said"), [(source, said) for source, *said in RULES])
def test_a_rule_that_cannot_take_an_update_is_refused_before_the_run(
    evaluate, own, tmp_path, source, said
):
    module = own(source)
    refused(
        evaluate(f"--problem random-walk-tabular --rule td {module}:made {TINY} --out run"),
        tmp_path / "run",
        f"--rule {module}:made",
        *said,
    )


def test_a_finite_problem_a_policy_a_body_and_a_rule_of_ones_own_work_together(
    evaluate, own, tmp_path
):
    module = own(
        RULE + "from envs.finite.finite_mdp import finite_mdp\n"
        "def problem():\n"
        "    return finite_mdp(transition=[[[0, 1, 0], [0, 0, 1]]] * 3, reward=torch.ones(3, 2, 3),"
        " discount=0.5, name='loop')\n"
        "def policy(x):\n    return torch.tensor([[0.25, 0.75]]).repeat(len(x), 1)\n"
        "def body(shape):\n"
        "    return torch.nn.Sequential(torch.nn.Linear(*shape, 2), torch.nn.Tanh())\n"
    )
    parts = f"--policy {module}:policy --behaviour uniform --body {module}:body"
    outcome = evaluate(f"--problem {module}:problem --rule {module}:Rule td {parts} {TINY}")
    assert outcome.status == 0, outcome.error
    assert "loop: off-policy" in outcome.out
    folder = tmp_path / "runs" / f"{module}.problem"
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {f"{module}.Rule", "td"}
    summary = json.loads((folder / f"{module}.Rule" / "summary.json").read_text())
    assert (summary["rule"], summary["problem"]) == (f"{module}:Rule", "loop")
    # Its direction is the parameters themselves: every head, being 0, stays where it is.
    history = read(folder / f"{module}.Rule" / "metrics.csv")
    assert np.all(history.values("norm/head") == 0)
    # Every value is 1 / (1 − 0.5), whatever is done, so the error of V = 0 is 2.
    np.testing.assert_allclose(history.values("error/rmsve"), 2.0, rtol=1e-12)


def test_an_environment_of_ones_own_is_evaluated_off_policy(evaluate, own, tmp_path):
    module = own(
        ENVIRONMENT + "def right(x):\n    return torch.tensor([[0.0, 1.0]]).repeat(len(x), 1)\n"
    )
    parts = f"--policy {module}:right --behaviour uniform --gamma 1"
    outcome = evaluate(f"--problem {module}:Env --rule td {parts} {TINY} {TRUTH} --out run")
    assert outcome.status == 0, outcome.error
    assert "off-policy, target right, behaviour uniform" in outcome.out
    assert "truth of Env: 4 states, 2 rollouts each" in outcome.out
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["policy"], config["gamma"]) == (f"{module}:right", 1.0)


@pytest.mark.parametrize("problem", ["Blackjack-v1", "FrozenLake-v1", "CliffWalking-v1"])
def test_a_registered_environment_without_a_policy_of_ours_is_evaluated_under_the_uniform_one(
    evaluate, problem
):
    truth = TRUTH if problem == "Blackjack-v1" else ""
    outcome = evaluate(f"--problem {problem} --gamma 0.8 --rule td {TINY} {truth} --out run")
    assert outcome.status == 0, outcome.error
    assert f"{problem} has no policy of its own here: the uniform random one" in outcome.out
    exact = f"{problem} is taken from its transition table" in outcome.out
    assert exact is (problem != "Blackjack-v1")


FIRST = """
def first(x):
    actions = {16: 4, 500: 6}[x.shape[1]]
    return torch.eye(actions)[:1].repeat(len(x), 1)
"""


def test_a_table_gives_exact_values_under_the_users_policy(evaluate, own, tmp_path):
    parts = f"--policy {own(FIRST)}:first --behaviour uniform --features given --gamma 0.9"
    outcome = evaluate(
        f"--problem FrozenLake-v1 --rule frozen+lstd {parts} --runs 2 --steps 3000 "
        "--measure-every 3000 --compile on --lstd-window 3000 --lstd-epsilon 1e-9 --out run"
    )
    assert outcome.status == 0, outcome.error
    assert "off-policy" in outcome.out
    metrics = json.loads((tmp_path / "run" / "summary.json").read_text())["metrics"]
    # One-hot features hold the true values exactly.
    assert metrics["best_linear_rmsve"]["final"]["mean"] == pytest.approx(0, abs=1e-9)
    assert metrics["rmsve"]["final"]["mean"] < 0.05
    assert "rmstde" not in metrics


def test_a_policy_that_only_a_time_limit_ends_is_evaluated_by_monte_carlo(evaluate, own):
    # Always south: a taxi stays at the wall, at one of many places.
    policy = f"--policy {own(FIRST)}:first --gamma 0.8"
    outcome = evaluate(f"--problem {TAXI} {policy} --rule td {TINY} {TRUTH} --out run")
    assert outcome.status == 0, outcome.error
    assert f"truth of {TAXI}: 4 states, 2 rollouts each" in outcome.out


def test_hidden_without_a_number_is_a_body_of_one_layer(evaluate, tmp_path):
    outcome = evaluate(f"--problem boyan --rule td --hidden --width 3 {TINY} --out run")
    assert outcome.status == 0, outcome.error
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["hidden"], config["width"]) == ([], 3)
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert [tuple(leaf.shape) for leaf in saved["state"]["leaves"]][:2] == [(2, 3, 12), (2, 3)]
