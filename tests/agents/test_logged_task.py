"""A log of a chain gives the chain's own results."""

import numpy as np
import pytest
import torch

from agents.logged_task import logged_task
from agents.policy_evaluation import chain_task
from envs.finite.finite_mdp import chain, finite_mdp
from envs.finite.streams import simulate_streams
from envs.logs.logged_problem import logged_problem
from neural_tdc import evaluate
from neural_tdc.learning.learner import divergence_limit, learn
from neural_tdc.learning.preparation import base_steps, prepare
from neural_tdc.learning.sampling import sampling_scheme
from neural_tdc.learning.schedules import schedule
from neural_tdc.metrics.samples import in_rows, sampled_moments
from neural_tdc.metrics.value_errors import td_fixed_point
from neural_tdc.rules.registry import RULES

STATES, GAMMA = 4, 0.8
TARGET = torch.tensor([[0.2, 0.8], [0.8, 0.2], [0.4, 0.6], [0.9, 0.1]], dtype=torch.float64)


def circle(target=None, ends=0.0):
    """Return a problem of four states: action 0 stays or goes on, action 1 goes two on."""
    transition = torch.zeros(STATES, 2, STATES, dtype=torch.float64)
    for state in range(STATES):
        transition[state, 0, state] = 0.25
        transition[state, 0, (state + 1) % STATES] = 0.75 - ends
        transition[state, 1, (state + 2) % STATES] = 0.5
        transition[state, 1, (state + 1) % STATES] = 0.5
    reward = torch.arange(32, dtype=torch.float64).reshape(STATES, 2, STATES) / 7 - 2
    ended = torch.tensor([ends, 0.0], dtype=torch.float64).repeat(STATES, 1)
    behaviour = torch.full((STATES, 2), 0.5)
    return finite_mdp(transition, reward, GAMMA, ended, target=target, behaviour=behaviour)


def lived(mdp, steps, seed=5):
    """Follow the uniform behaviour by hand, and return what a log holds of it."""
    draws = np.random.default_rng(seed)
    state = int(draws.integers(STATES))
    rows = []
    for _ in range(steps):
        action = int(draws.integers(2))
        chances = np.append(mdp.transition[state, action], mdp.termination[state, action])
        following = int(draws.choice(STATES + 1, p=chances))
        ended = following == STATES
        gain = float(mdp.terminal_reward[state, action])
        if not ended:
            gain = float(mdp.reward[state, action, following])
        rows.append((state, action, gain, ended))
        state = int(draws.integers(STATES)) if ended else following
    state, action, reward, ended = map(np.array, zip(*rows))
    return {
        "observation": np.eye(STATES)[state],
        "action": action,
        "reward": reward,
        "terminated": ended,
        "truncated": np.zeros(steps, bool),
        "behaviour_probability": np.full(steps, 0.5),
    }


def simulated(mdp, steps, seed, dtype):
    """Return the arrays of a log of the first stream of a chain without ends, and its states."""
    stream = simulate_streams(mdp, 1, steps, seed, dtype=dtype)
    no = np.zeros(steps, bool)
    return {
        "observation": np.eye(STATES)[stream.observation[0]],
        "next_observation": np.eye(STATES)[stream.next_observation[0]],
        "action": np.zeros(steps, int),
        "reward": stream.reward[0].numpy(),
        "terminated": no,
        "truncated": no,
    }


def problem_of(tmp_path, arrays, policy=None, gamma=GAMMA):
    path = tmp_path / "circle.npz"
    np.savez(path, **arrays)
    return logged_problem(path, gamma, policy)


def learned(task, rule, steps, dtype, runs=1, kind="markov"):
    """Return the measurement after the last step of a run on given features."""
    algorithm, state = prepare(RULES[rule], None, task.example, runs=runs, seed=0)
    measurements = learn(
        algorithm,
        state,
        task.experience,
        base_steps(algorithm.rule, (0.0, 0.05, 0.1), runs, torch.zeros((), dtype=dtype)),
        schedule("constant"),
        sampling_scheme(kind),
        task.evaluator(algorithm.features, algorithm.rule),
        steps=steps,
        measured=[1, steps],
        limit=divergence_limit(state.parameters),
    )
    return list(measurements)[-1]


@pytest.mark.parametrize("target", [None, TARGET])
@pytest.mark.parametrize("ends", [0.0, 0.2])
def test_lstd_of_a_chains_log_is_the_chains_value(tmp_path, target, ends):
    mdp = circle(target, ends)

    def policy(observation):
        return TARGET[observation.argmax(1)]

    given = None if target is None else policy
    problem = problem_of(tmp_path, lived(mdp, 20_000), given)
    if target is not None:
        assert abs(float(problem.transition.ratio.mean()) - 1) < 0.02
    batch = type(problem.transition)(*(leaf[0] for leaf in problem.transition))
    sample = in_rows(batch)
    moments = sampled_moments(sample, sample.observation)
    value = chain(mdp).value()
    # Values span about 3; the errors of 20,000 transitions are some hundredths of that.
    assert float(value.max() - value.min()) > 1
    torch.testing.assert_close(td_fixed_point(moments), value, rtol=0, atol=0.12)


def test_the_two_policies_differ_by_more_than_the_statistical_error():
    gap = chain(circle(TARGET)).value() - chain(circle()).value()
    assert float(gap.abs().max()) > 0.3


@pytest.mark.parametrize("rule", ["td", "tdc"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_run_on_the_log_is_bit_for_bit_the_run_on_the_chain(tmp_path, rule, dtype):
    mdp, steps = circle(), 60
    problem = problem_of(tmp_path, simulated(mdp, 400, 2, dtype))
    log = logged_task(problem, given=True, runs=2, transitions=steps, seed=2, dtype=dtype)
    own = chain_task(mdp, given=True, runs=1, transitions=400, seed=2, dtype=dtype)
    of_log = learned(log, rule, steps, dtype, runs=2).state.parameters
    of_chain = learned(own, rule, steps, dtype).state.parameters
    assert of_chain.head.abs().max() > 0.1
    for run in range(2):
        assert torch.equal(of_log.head[run], of_chain.head[0])
        for name, vector in of_chain.auxiliary.items():
            assert torch.equal(of_log.auxiliary[name][run], vector[0])


def test_a_run_on_the_log_is_bit_for_bit_the_one_on_its_tensors(tmp_path):
    problem = problem_of(tmp_path, simulated(circle(), 400, 2, torch.float64))
    task = logged_task(problem, given=True, runs=3, fraction=0.25, seed=0, dtype=torch.float64)
    last = learned(task, "td", 90, torch.float64, runs=3, kind="iid")
    result = evaluate(
        problem.transition,
        rule="td",
        body=None,
        steps=90,
        runs=3,
        head_step=0.05,
        auxiliary_step=0.1,
        sampling="iid",
        held_out=0.25,
        measure_every=90,
    )
    assert torch.equal(last.state.parameters.head, result.parameters.head)
    # Draws of their own: the runs differ.
    assert len(last.state.parameters.head.unique(dim=0)) == 3
    assert last.values.keys() == result.measurements.keys()
    for name, value in last.values.items():
        assert torch.equal(value, result.measurements[name][-1]), name


def test_errors_that_need_a_truth_are_left_out_and_the_others_are_of_the_held_out_part(tmp_path):
    arrays = simulated(circle(), 400, 2, torch.float64)
    problem = problem_of(tmp_path, arrays)
    task = logged_task(problem, given=True, runs=1, seed=0, dtype=torch.float64)
    last = learned(task, "tdc", 50, torch.float64)
    assert not {"error/rmsve", "error/lstd_rmsve", "error/best_linear_rmsve"} & {*last.values}
    head = last.state.parameters.head[0].numpy()
    held = slice(320, 400)
    error = (
        arrays["reward"][held]
        + GAMMA * arrays["next_observation"][held] @ head
        - arrays["observation"][held] @ head
    )
    np.testing.assert_allclose(last.values["error/rmstde"][0], (error**2).mean() ** 0.5, rtol=1e-12)
    assert {"error/rmspbe", "tracking_error/head", "tracking_error/auxiliary"} <= {*last.values}
    (note,) = task.notes
    assert "320 transitions to learn from, the last 80 held out" in note


def test_observations_are_standardised_by_the_part_to_learn_from_in_the_files_precision(tmp_path):
    arrays = simulated(circle(), 400, 2, torch.float64)
    clock = 1.7e9 + np.arange(401.0)
    arrays["observation"] = np.stack([clock[:-1], np.full(400, 3.0)], 1)
    arrays["next_observation"] = np.stack([clock[1:], np.full(400, 3.0)], 1)
    task = logged_task(problem_of(tmp_path, arrays), runs=1)
    seen = task.experience.transitions.observation[0]
    assert seen.dtype == torch.float32
    assert seen.shape == (320, 2)
    expected = (np.arange(320) - 159.5) / np.arange(320).std()
    np.testing.assert_allclose(seen[:, 0], expected, rtol=1e-5)
    assert (seen[:, 1] == 0).all()
    following = task.experience.transitions.next_observation[0]
    np.testing.assert_allclose(following[:-1, 0], expected[1:], rtol=1e-5)
    assert task.shift is not None
    assert task.scale is not None
    assert task.shift.tolist() == [1.7e9 + 159.5, 3.0]
    assert len(task.example) == 256


def test_given_features_stay_as_they_are_and_must_be_vectors(tmp_path):
    arrays = simulated(circle(), 40, 2, torch.float64)
    task = logged_task(problem_of(tmp_path, arrays), given=True, runs=1)
    assert task.shift is None
    assert task.features_given
    assert (
        task.experience.transitions.observation[0].tolist() == arrays["observation"][:32].tolist()
    )
    pairs = {name: arrays[name].reshape(40, 2, 2) for name in ("observation", "next_observation")}
    with pytest.raises(ValueError, match=r"not observations of shape \(2, 2\)"):
        logged_task(problem_of(tmp_path, arrays | pairs), given=True, runs=1)


def test_a_log_that_is_gone_through_again_is_cut_at_its_end(tmp_path):
    problem = problem_of(tmp_path, simulated(circle(), 100, 2, torch.float64))
    once = logged_task(problem, given=True, runs=1, transitions=80)
    again = logged_task(problem, given=True, runs=1, transitions=200)
    assert (once.truncates, again.truncates) == (False, True)
    assert "gone through 2.5 times" in again.notes[-1]


def test_truncated_episodes_are_known_as_such(tmp_path):
    arrays = lived(circle(), 100)
    arrays["truncated"][40] = True
    assert logged_task(problem_of(tmp_path, arrays), runs=1).truncates
    arrays["truncated"][40] = False
    assert not logged_task(problem_of(tmp_path, arrays), runs=1).truncates
