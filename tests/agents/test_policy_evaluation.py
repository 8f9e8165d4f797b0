import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import TimeLimit

from agents.policy_evaluation import chain_task, control_task
from agents.task import EXAMPLES
from envs.control.collection import collect, held_out
from envs.control.problems import control_problem
from envs.control.standardisation import standardisation
from envs.control.truth import monte_carlo_truth
from envs.finite.finite_mdp import chain, finite_mdp
from envs.finite.standard_problems import baird, boyan, garnet, random_walk_dependent
from envs.finite.streams import exact_transitions
from envs.finite.structured_problems import grid_world
from neural_tdc.learning.experience import gather
from neural_tdc.learning.sampling import MarkovSampling
from neural_tdc.networks.feature_map import given_features
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters

SMALL = {"states": 5, "rollouts": 2, "held_out_size": 40}
TDC = RULES["tdc"]


class Walk(gymnasium.Env):
    """Two numbers of different size, one that never changes, and an end after seven steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._seen(), {}

    def step(self, action):
        self.time += 1
        return self._seen(), float(action), self.time == 7, False, {}

    def _seen(self):
        return np.array([100 + self.time, 0.1 * self.np_random.random(), 4.0], dtype=np.float32)


def right(observation):
    return torch.tensor([[0.0, 1.0]]).repeat(len(observation), 1)


def parameters(*heads):
    """Return a population whose runs have the given heads on given features."""
    head = torch.tensor(heads, dtype=torch.float64)
    return Parameters({}, head, {name: torch.zeros_like(head) for name in TDC.auxiliaries})


def same(first, second):
    """Assert that two trees of tensors are equal to the bit, None included."""
    for one, other in zip(first, second, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


# Finite chains


def test_a_chain_has_its_streams_as_numbers_of_rows_in_a_table():
    mdp = grid_world()
    task = chain_task(mdp, given=False, runs=3, transitions=11, seed=2)
    assert task.experience.transitions.observation.shape == (3, 11)
    torch.testing.assert_close(task.experience.table, mdp.observation.float())
    given = chain_task(mdp, given=True, runs=3, transitions=11, seed=2)
    torch.testing.assert_close(given.experience.table, mdp.features.float())
    same(task.experience.transitions, given.experience.transitions)
    assert (task.features_given, given.features_given) == (False, True)
    assert (task.name, task.states, task.truncates) == ("grid", 47, False)
    assert (task.shift, task.scale, task.notes) == (None, None, ())


def test_the_first_runs_and_steps_of_a_chain_do_not_depend_on_how_many_there_are():
    few = chain_task(garnet(), given=False, runs=2, transitions=9, seed=5).experience
    many = chain_task(garnet(), given=False, runs=4, transitions=23, seed=5).experience
    for one, other in zip(few.transitions, many.transitions, strict=True):
        assert torch.equal(one, other[:2, :9])
    assert torch.equal(few.key, many.key[:2])
    other = chain_task(garnet(), given=False, runs=2, transitions=9, seed=6).experience
    assert not torch.equal(few.transitions.observation, other.transitions.observation)
    assert not (few.key == other.key).any()


def test_every_run_has_a_stream_and_a_key_of_its_own():
    experience = chain_task(garnet(), given=False, runs=3, transitions=40, seed=5).experience
    assert experience.stream_index.tolist() == [0, 1, 2]
    assert len({*experience.key.tolist()}) == 3
    batch = gather(experience, MarkovSampling(4).times(experience.key, torch.tensor(2), length=40))
    expected = experience.table[experience.transitions.observation[:, 8:12]]
    assert torch.equal(batch.observation, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_chain_comes_in_the_dtype_that_learns(dtype):
    task = chain_task(baird(), given=True, runs=2, transitions=3, seed=0, dtype=dtype)
    experience = task.experience
    assert experience.table.dtype == task.example.dtype == dtype
    for leaf in (experience.transitions.reward, experience.transitions.ratio):
        assert leaf.dtype == dtype


def test_a_prescribed_head_comes_with_given_features_only():
    common = {"runs": 2, "transitions": 3, "seed": 0}
    assert chain_task(baird(), given=True, **common).head.tolist() == [1] * 7 + [10]
    assert chain_task(baird(), given=False, **common).head is None
    assert chain_task(boyan(), given=True, **common).head is None


def test_the_evaluator_of_a_chain_is_exact():
    mdp = random_walk_dependent()
    task = chain_task(mdp, given=True, runs=2, transitions=3, seed=0)
    heads = [[0.3, -0.2, 0.5], [0.0, 0.0, 0.0]]
    measured = task.evaluator(given_features, TDC)(parameters(*heads))
    exact = chain(mdp)
    for run, head in enumerate(torch.tensor(heads, dtype=torch.float64)):
        error = mdp.features @ head - exact.value()
        rmsve = (exact.weighting * error.square()).sum().sqrt()
        torch.testing.assert_close(measured["error/rmsve"][run], rmsve, rtol=1e-12, atol=0)
        rmspbe = exact.mspbe(mdp.features, head).sqrt()
        torch.testing.assert_close(measured["error/rmspbe"][run], rmspbe, rtol=1e-10, atol=0)


def test_the_stream_of_a_chain_has_the_expectations_that_its_evaluator_uses():
    mdp = random_walk_dependent()
    task = chain_task(mdp, given=True, runs=40, transitions=500, seed=1, dtype=torch.float64)
    batch, weights = exact_transitions(mdp)
    streams = task.experience.transitions
    expected = (weights * batch.ratio * batch.reward).sum()
    means = (streams.ratio * streams.reward).mean(1)
    assert abs(means.mean() - expected) < 4 * means.std() / 40**0.5


def test_examples_are_states_that_are_visited_and_at_least_two():
    task = chain_task(boyan(), given=False, runs=1, transitions=2, seed=0)
    assert len(task.example) == 12
    only_the_second = finite_mdp(
        transition=[[[0.0, 1.0]], [[0.0, 1.0]]],
        reward=torch.zeros(2, 1, 2),
        discount=0.5,
        start=[0.0, 1.0],
    )
    task = chain_task(only_the_second, given=False, runs=1, transitions=2, seed=0)
    assert task.example.tolist() == [[0.0, 1.0], [0.0, 1.0]]


# Gymnasium problems


@pytest.fixture(scope="module")
def walk():
    return control_problem(Walk, target=right, behaviour="uniform", discount=0.9)


@pytest.fixture(scope="module")
def task(walk):
    return control_task(walk, runs=2, transitions=30, seed=3, **SMALL)


def test_observations_are_standardised_by_the_held_out_stream_alone(walk, task):
    test = held_out(walk, 40, 3)
    shift, scale = standardisation(test.observation)
    assert torch.equal(task.shift, shift)
    assert torch.equal(task.scale, scale)
    torch.testing.assert_close(task.example, (test.observation - shift) / scale)
    torch.testing.assert_close(task.example.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    deviation = torch.tensor([1.0, 1.0, 0.0])
    torch.testing.assert_close(task.example.std(0, unbiased=False), deviation, atol=1e-4, rtol=0)


def test_streams_are_the_collected_ones_standardised_and_otherwise_unchanged(walk, task):
    streams, seen = collect(walk, 2, 30, 3), task.experience.transitions
    for name in ("observation", "next_observation"):
        raw = getattr(streams, name)
        torch.testing.assert_close(getattr(seen, name), (raw - task.shift) / task.scale)
    for name in ("reward", "discount", "ratio", "first"):
        assert torch.equal(getattr(seen, name), getattr(streams, name))
    assert task.experience.table is None
    # The target always goes right, the behaviour half of the time.
    assert {*seen.ratio.flatten().tolist()} == {0.0, 2.0}
    assert sorted({*seen.discount.flatten().tolist()}) == pytest.approx([0.0, 0.9])


def test_the_first_runs_and_steps_do_not_depend_on_how_many_there_are(walk, task):
    longer = control_task(walk, runs=3, transitions=44, seed=3, **SMALL)
    for one, other in zip(task.experience.transitions, longer.experience.transitions, strict=True):
        assert torch.equal(one, other[:2, :30])
    assert torch.equal(task.example, longer.example)
    heads = parameters([0.5, 0.1, 0.2], [0.0, 1.0, 0.0])
    first, second = (each.evaluator(given_features, TDC)(heads) for each in (task, longer))
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name])


def test_the_evaluator_measures_against_the_truth_less_its_own_error(walk, task):
    truth = monte_carlo_truth(walk, 5, 2, 3)
    observation = ((truth.observation - task.shift) / task.scale).double()
    heads = [[0.5, 0.1, 0.2], [0.0, 0.0, 0.0]]
    measured = task.evaluator(given_features, TDC)(parameters(*heads))
    noise = truth.standard_error.double().square().mean()
    for run, head in enumerate(torch.tensor(heads, dtype=torch.float64)):
        squared = (observation @ head - truth.value.double()).square().mean()
        expected = (squared - noise).clamp(min=0).sqrt()
        torch.testing.assert_close(measured["error/rmsve"][run], expected, rtol=1e-9, atol=0)


def test_the_truth_is_the_one_that_can_be_computed_by_hand(walk, task):
    # Going right earns 1 a step until the end: (1 − 0.9^(7 − t)) / 0.1 with t steps done.
    truth = monte_carlo_truth(walk, 5, 2, 3)
    left = 7 - (truth.observation[:, 0] - 100)
    torch.testing.assert_close(truth.value, (1 - 0.9**left) / 0.1)
    rmsve = task.evaluator(given_features, TDC)(parameters([0.0, 0.0, 0.0]))["error/rmsve"]
    expected = ((1 - 0.9 ** left.double()) / 0.1).square().mean().sqrt()
    torch.testing.assert_close(rmsve, expected[None], rtol=1e-6, atol=0)


def test_rmstde_is_measured_on_the_held_out_stream(walk, task):
    test = held_out(walk, 40, 3)
    now, after = (
        ((each - task.shift) / task.scale).double()
        for each in (test.observation, test.next_observation)
    )
    head = torch.tensor([0.5, 0.1, 0.2], dtype=torch.float64)
    error = test.reward + test.discount * (after @ head) - now @ head
    expected = (test.ratio * error.square()).mean().sqrt()
    measured = task.evaluator(given_features, TDC)(parameters(head.tolist()))
    torch.testing.assert_close(measured["error/rmstde"], expected[None], rtol=1e-6, atol=0)


def test_the_note_says_how_good_the_truth_is(task):
    (note,) = [line for line in task.notes if line.startswith("truth of Walk")]
    assert "5 states, 2 rollouts each" in note
    assert "standard error 0 (its square is subtracted" in note


def test_a_problem_without_a_policy_of_its_own_says_which_one_is_evaluated():
    problem = control_problem(Walk)
    (first, _) = control_task(problem, runs=1, transitions=3, seed=0, **SMALL).notes
    assert "the uniform random one is evaluated" in first


def test_progress_hears_of_every_preparation_up_to_its_end(walk):
    reported = []
    control_task(
        walk,
        runs=2,
        transitions=9,
        seed=0,
        **SMALL,
        on_progress=lambda *said: reported.append(said),
    )
    last = {what: (done, total) for what, done, total in reported}
    assert last == {"held-out transitions": (40, 40), "experience": (9, 9), "truth": (5, 5)}


def test_a_cut_episode_is_noticed_and_an_ended_one_is_none(walk, task):
    assert task.truncates is False
    cut = control_problem(lambda: TimeLimit(Walk(), 4), "uniform", discount=0.9)
    assert control_task(cut, runs=1, transitions=12, seed=0, **SMALL).truncates is True
    # Nothing follows a cut at the very end of a stream.
    assert control_task(cut, runs=1, transitions=4, seed=0, **SMALL).truncates is False


def test_learning_in_float64_has_the_numbers_of_the_collected_float32(walk, task):
    double = control_task(walk, runs=2, transitions=30, seed=3, **SMALL, dtype=torch.float64)
    for one, other in zip(task.experience.transitions, double.experience.transitions, strict=True):
        assert other.dtype == torch.float64
        assert torch.equal(one.double(), other)


def test_examples_are_no_more_than_a_rule_needs(walk):
    many = control_task(walk, runs=1, transitions=3, seed=0, **{**SMALL, "held_out_size": 300})
    assert len(many.example) == EXAMPLES == 256


def test_a_truth_that_no_memory_holds_is_refused_before_anything_is_collected(walk):
    def collected(what, done, total):
        raise AssertionError(what)

    with pytest.raises(ValueError, match=r"^a truth at 1,000,000,000 states of .* takes .* GB"):
        control_task(walk, runs=1, transitions=3, seed=0, states=10**9, on_progress=collected)
