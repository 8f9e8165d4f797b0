"""The training loop: what converges and what does not, measurements, divergence and resuming."""

from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from envs.finite.finite_mdp import chain
from envs.finite.standard_problems import problem
from neural_tdc.learning.algorithm import Algorithm, initial_state
from neural_tdc.learning.experience import gather
from neural_tdc.learning.learner import divergence_limit, learn, updates
from neural_tdc.learning.optimisers import PLAIN_STEPS, part_optimizers
from neural_tdc.learning.preparation import base_steps, prepare
from neural_tdc.learning.sampling import (
    IidSampling,
    MarkovSampling,
    ReplaySampling,
    sampling_scheme,
)
from neural_tdc.learning.schedules import measured_steps, schedule
from neural_tdc.metrics.evaluators import chain_evaluator
from neural_tdc.networks.bodies import mlp
from neural_tdc.networks.feature_map import given_features
from neural_tdc.rules.composition import NO_STATE
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters
from tests.neural_tdc.learning.populations import (
    CALM,
    F64,
    RUNS,
    experience,
    history,
    neural,
    of_runs,
    of_state,
    same_bits,
    sizes_of,
)

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("steps", "every", "start", "expected"),
    [
        (5, 2, 0, [1, 3, 5]),
        (6, 2, 0, [1, 3, 5, 6]),
        (1, 100, 0, [1]),
        (100, 100, 0, [1, 100]),
        (101, 100, 0, [1, 101]),
        (3, 1, 0, [1, 2, 3]),
        (10, 3, 4, [7, 10]),
        (10, 3, 7, [10]),
        (10, 3, 10, []),
    ],
)
def test_measurements_come_after_the_first_update_then_regularly_and_at_the_end(
    steps, every, start, expected
):
    assert measured_steps(steps, every, after=start) == expected


RESUMED = {
    "markov": ("tdc", MarkovSampling(3), PLAIN_STEPS, "none"),
    "replay": ("generalized", ReplaySampling(4, 7), PLAIN_STEPS, "ball:5"),
    "rmsprop": ("tdc", IidSampling(5), part_optimizers(("rmsprop", "rmsprop", "sgd")), "none"),
    "adam": ("tdrc", IidSampling(5), part_optimizers("adam", 0.5), "none"),
    "statistics": ("semi_gradient+lstd", IidSampling(5), PLAIN_STEPS, "none"),
    "trace": ("etd", MarkovSampling(), PLAIN_STEPS, "none"),
}


@pytest.mark.parametrize(
    ("rule", "sampling", "optimizers", "constraint"), RESUMED.values(), ids=RESUMED
)
def test_resuming_from_a_state_in_the_middle_gives_the_bits_of_the_whole(
    rule, sampling, optimizers, constraint
):
    setting = neural(rule, optimizers=optimizers, constraint=constraint)
    sizes = sizes_of(0.01, 0.02, 0.005)
    whole = history(setting, sizes, steps=11, every=4, sampling=sampling)
    assert [m.step for m in whole] == [1, 5, 9, 11]
    middle = tree_map(torch.clone, whole[1].state)
    rest = history(setting, sizes, steps=11, every=4, sampling=sampling, state=middle, start=5)
    assert [m.step for m in rest] == [9, 11]
    for mine, theirs in zip(rest, whole[2:]):
        assert same_bits(mine.state, theirs.state)
        assert all(torch.equal(mine.values[name], value) for name, value in theirs.values.items())
    # A resumed run must not begin its stream or its schedule again.
    again = history(setting, sizes, steps=6, every=4, sampling=sampling, state=middle)
    assert not same_bits(again[-1].state.parameters, rest[-1].state.parameters)


@pytest.mark.parametrize("sampling", ["markov", "iid", "replay"])
def test_a_run_of_a_population_equals_the_same_run_alone(sampling):
    setting = algorithm, state, seen, evaluator = neural()
    together = history(setting, sizes_of(*CALM), sampling=sampling_scheme(sampling, batch=4))
    for run in range(RUNS):
        mine = (algorithm, of_state(state, [run]), of_runs(seen, [run]), evaluator)
        alone = history(mine, sizes_of(CALM[run]), sampling=sampling_scheme(sampling, batch=4))
        for one, many in zip(alone, together):
            for a, b in zip(tree_leaves(one.state), tree_leaves(many.state)):
                assert torch.allclose(a[0], b[run], rtol=1e-12, atol=1e-14)
            for name, value in many.values.items():
                assert float(one.values[name][0]) == pytest.approx(float(value[run]), rel=1e-8)


def test_the_same_setting_gives_the_same_bits_twice():
    first, second = (history(neural(), sizes_of(*CALM)) for _ in range(2))
    assert same_bits(first[-1].state, second[-1].state)
    other = history(neural(), sizes_of(0.05, 0.1, 0.021))
    assert not torch.equal(first[-1].state.parameters.head[2], other[-1].state.parameters.head[2])


def test_an_update_uses_the_step_sizes_and_the_transitions_of_its_number():
    algorithm, state, seen, _ = neural()
    sampling, sizes = MarkovSampling(2), sizes_of(*CALM)
    number = torch.tensor(31)
    moved, _ = updates(algorithm, schedule("general"), sampling)(state, seen, number, sizes)
    batch = gather(seen, sampling.times(seen.key, number, 60))
    for run in range(RUNS):
        mine = of_state(state.parameters, run)
        direction = algorithm.rule.directions(
            algorithm.features, mine, type(batch)(*(leaf[run] for leaf in batch))
        )
        # At k = 31 the factors of the general schedule are 1/8, 1/4 and 1/4.
        head = mine.head - sizes.head[run] / 4 * direction.head
        assert torch.allclose(moved.parameters.head[run], head, rtol=1e-13, atol=1e-15)
        for name, tensor in mine.body.items():
            body = tensor - sizes.body[run] / 8 * direction.body[name]
            assert torch.allclose(moved.parameters.body[name][run], body, rtol=1e-13, atol=1e-15)


def test_single_precision_stays_single_and_is_measured_in_double():
    mdp = problem("random-walk-tabular")
    observation = mdp.observation.float()
    algorithm, state = prepare(
        RULES["tdc"], lambda shape: mlp(shape, 2, (3,)), observation, runs=2, seed=0
    )
    (measurement,) = learn(
        algorithm,
        state,
        experience(mdp, 2, observation, 40, dtype=torch.float32),
        base_steps(algorithm.rule, (0.1, 0.1, 0.1), 2, observation),
        schedule("general"),
        MarkovSampling(),
        chain_evaluator(chain(mdp), observation, algorithm.features, algorithm.rule),
        steps=1,
        measured=[1],
        limit=divergence_limit(state.parameters),
    )
    assert {leaf.dtype for leaf in tree_leaves(measurement.state)} == {torch.float32}
    assert {value.dtype for value in measurement.values.values()} == {F64}


def test_streams_need_not_tell_where_episodes_start():
    algorithm, state, seen, evaluator = neural()
    untold = seen._replace(transitions=seen.transitions._replace(first=None))
    told = history((algorithm, state, seen, evaluator), sizes_of(*CALM))
    assert same_bits(
        history((algorithm, state, untold, evaluator), sizes_of(*CALM))[-1].state, told[-1].state
    )


def test_the_callers_gradients_stay_switched_on_between_measurements():
    setting = algorithm, state, seen, evaluator = neural()
    modes = []
    for measurement in learn(
        algorithm,
        state,
        seen,
        sizes_of(*CALM),
        schedule("constant"),
        IidSampling(2),
        evaluator,
        steps=3,
        measured=[1, 2, 3],
        limit=divergence_limit(setting[1].parameters),
    ):
        modes.append(torch.is_grad_enabled())
        assert not any(leaf.requires_grad for leaf in tree_leaves(measurement.state))
    assert modes == [True] * 3


def test_a_body_with_a_single_number_can_be_learned():
    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(30, 4)
            self.scale = torch.nn.Parameter(torch.tensor(1.5))

        def forward(self, x):
            return self.scale * self.linear(x).tanh()

    _, _, seen, _ = neural()
    mdp = problem("garnet-off-policy")
    algorithm, state = prepare(RULES["td"], lambda _: Scaled(), mdp.observation, runs=RUNS, seed=0)
    evaluator = chain_evaluator(chain(mdp), mdp.observation, algorithm.features, algorithm.rule)
    last = history((algorithm, state, seen, evaluator), sizes_of(*CALM))[-1]
    assert last.state.parameters.body["scale"].shape == (RUNS,)
    assert not torch.equal(last.state.parameters.body["scale"], state.parameters.body["scale"])


def test_a_rule_without_a_body_can_be_stepped_directly():
    # The smallest use of the learner there is: one run, given features, no preparation.
    mdp = problem("random-walk-tabular")
    algorithm = Algorithm(RULES["td"].with_given_features(), given_features)
    start = initial_state(algorithm, Parameters({}, torch.zeros(1, 5, dtype=F64), {}), NO_STATE)
    advance = updates(algorithm, schedule("constant"), MarkovSampling())
    state, _ = advance(start, experience(mdp, 1, mdp.features, 30), torch.tensor(0), sizes_of(0.1))
    assert state.parameters.head.shape == (1, 5)
