"""The training loop: what converges and what does not, measurements, divergence and resuming."""

from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from envs.finite.finite_mdp import chain
from envs.finite.standard_problems import problem
from envs.finite.streams import simulate_streams
from neural_tdc.learning.algorithm import Algorithm, initial_state
from neural_tdc.learning.learner import divergence_limit, learn, updates
from neural_tdc.learning.optimisers import SGD, Optimizer
from neural_tdc.learning.preparation import base_steps, prepare
from neural_tdc.learning.sampling import (
    Experience,
    IidSampling,
    MarkovSampling,
    ReplaySampling,
    gather,
    sampling_scheme,
)
from neural_tdc.learning.schedules import measured_steps, schedule
from neural_tdc.metrics.evaluators import chain_evaluator
from neural_tdc.networks.bodies import mlp
from neural_tdc.networks.feature_map import given_features
from neural_tdc.randomness import keys
from neural_tdc.rules.composition import NO_STATE
from neural_tdc.rules.registry import RULES
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Parameters, StepSizes

F64 = torch.float64
IID = IidSampling(16)
ROOT = Path(__file__).parents[3]


def experience(mdp, runs, table, length=3000, seed=0, dtype=F64):
    streams = simulate_streams(mdp, runs, length, seed, dtype=dtype)
    key = keys(seed, runs, "sampling")
    return Experience(streams, table.to(dtype), torch.arange(runs), key)


def of_runs(seen, runs):
    """Return the experience of some of the runs, by a list of their numbers."""
    return seen._replace(stream_index=seen.stream_index[runs], key=seen.key[runs])


def measured(mdp, rule, sizes, steps, *, runs=2, every=100, sampling=IID, scheduled="constant"):
    """Learn on the given features of a chain and return all measurements."""
    algorithm, state = prepare(rule, None, mdp.features, runs=runs, seed=0, head=mdp.initial_head)
    return list(
        learn(
            algorithm,
            state,
            experience(mdp, runs, mdp.features),
            base_steps(algorithm.rule, sizes, runs, mdp.features),
            schedule(scheduled),
            sampling,
            chain_evaluator(chain(mdp), mdp.features, algorithm.features, algorithm.rule),
            steps=steps,
            measure_every=every,
            limit=divergence_limit(state.parameters),
        )
    )


# --- what the field knows of these rules


def test_td_diverges_on_bairds_star():
    first, *_, last = measured(problem("baird"), RULES["td"], (0.0, 0.15, 0.0), 150)
    error = "error/rmspbe"
    assert float(first.values[error].max()) < 10
    assert bool((last.values[error] > 100 * first.values[error]).all())


@pytest.mark.parametrize(
    ("rule", "head_step", "auxiliary_step"),
    [("tdc", 0.05, 0.2), ("gtd2", 0.1, 0.2), ("tdrc", 0.1, 0.1)],
)
def test_gradient_rules_converge_on_bairds_star(rule, head_step, auxiliary_step):
    sizes = (0.0, head_step, auxiliary_step)
    first, *_, last = measured(problem("baird"), RULES[rule], sizes, 150)
    error = "error/rmspbe"
    assert bool((last.values[error] < 0.05 * first.values[error]).all())
    assert not last.diverged.any()


def test_a_step_size_that_is_too_large_is_counted_as_divergence_on_bairds_star():
    first, *_, last = measured(problem("baird"), RULES["td"], (0.0, 1.0, 0.0), 100, every=99)
    assert not first.diverged.any()
    assert bool(last.diverged.all())
    assert bool(last.values["error/rmspbe"].isnan().all())


def test_td_finds_its_fixed_point_and_v_trace_another_one():
    mdp = problem("random-walk-tabular")
    c = chain(mdp)
    # E[min(1, ρ)δφ] = 0 with min(1, ρ)·b = min(b, π), and one feature a state.
    clipped = torch.minimum(mdp.behaviour, mdp.target)
    going = torch.einsum("sa,sat->st", clipped, mdp.transition)
    paid = (clipped * mdp.termination * mdp.terminal_reward).sum(1)
    v_trace = torch.linalg.solve(clipped.sum(1).diag() - going, paid)
    td = c.td_fixed_point(mdp.features)
    assert float((v_trace - td).norm()) > 0.4
    for name, mine, other in (("td", td, v_trace), ("vtrace", v_trace, td)):
        *_, last = measured(
            mdp,
            RULES[name],
            (0.0, 4.0, 0.0),
            200,
            runs=4,
            sampling=IidSampling(32),
            scheduled="polynomial:0.5",
        )
        # The mean over the runs, since each one's own noise is not what is asked.
        head = last.state.parameters.head.mean(0)
        assert float((head - mine).norm()) < 0.15
        assert float((head - other).norm()) > 0.3


def test_least_squares_td_equals_its_closed_form_on_what_was_seen():
    mdp = problem("random-walk-dependent")
    steps, runs = 150, 2
    rule = RULES["frozen+lstd"].with_settings(lstd_window=10**6, lstd_epsilon=1e-4)
    *_, last = measured(
        mdp, rule, (0.0, 0.3, 0.0), steps, runs=runs, every=steps, sampling=MarkovSampling()
    )
    seen = experience(mdp, runs, mdp.features).transitions
    for run in range(runs):
        phi = mdp.features[seen.observation[run, :steps]]
        phi_next = mdp.features[seen.next_observation[run, :steps]]
        discount, ratio = seen.discount[run, :steps, None], seen.ratio[run, :steps, None]
        A = (ratio * phi).T @ (phi - discount * phi_next) / steps + 1e-4 * torch.eye(3, dtype=F64)
        b = (ratio * phi).T @ seen.reward[run, :steps] / steps
        expected = torch.linalg.solve(A, b)
        assert torch.allclose(last.state.parameters.head[run], expected, rtol=1e-9)


# --- when is measured


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


# --- neural populations on a chain


RUNS = 3


def neural(rule="tdc", runs=RUNS, optimizer=SGD, constraint="none", name="garnet-off-policy"):
    """Return (algorithm, state, experience, judge) of a neural population, in float64."""
    mdp = problem(name)
    observation = mdp.observation
    algorithm, state = prepare(
        RULES[rule] if isinstance(rule, str) else rule,
        lambda shape: mlp(shape, 6, (9,)),
        observation,
        runs=runs,
        seed=1,
        optimizer=optimizer,
        constraint=constraint,
    )
    evaluator = chain_evaluator(chain(mdp), observation, algorithm.features, algorithm.rule)
    return algorithm, state, experience(mdp, runs, observation, 60), evaluator


def sizes_of(*bodies):
    """Return step sizes of runs: (body, 4 · body, 3 · body) for the three parts."""
    body = torch.tensor(bodies, dtype=F64)
    return StepSizes(body, 4 * body, 3 * body)


CALM = (0.05, 0.1, 0.02)


def history(setting, sizes, steps=12, every=4, sampling=None, scheduled="general", **options):
    algorithm, state, seen, evaluator = setting
    state = options.pop("state", state)
    return list(
        learn(
            algorithm,
            state,
            seen,
            sizes,
            schedule(scheduled),
            sampling or IidSampling(5),
            evaluator,
            steps=steps,
            measure_every=every,
            limit=options.pop("limit", divergence_limit(setting[1].parameters)),
            **options,
        )
    )


def same_bits(left, right):
    return all(
        torch.equal(a, b) for a, b in zip(tree_leaves(left), tree_leaves(right), strict=True)
    )


def of_state(state, runs):
    return tree_map(lambda leaf: leaf[runs], state)


def test_a_run_that_diverges_leaves_the_bits_of_the_others_alone():
    setting = neural()
    algorithm, state, seen, evaluator = setting
    wild = history(setting, sizes_of(0.05, 1e9, 0.02), steps=24, every=8)[-1]
    assert wild.diverged.tolist() == [False, True, False]
    with_a_calm_neighbour = history(setting, sizes_of(*CALM), steps=24, every=8)[-1]
    assert not with_a_calm_neighbour.diverged.any()
    others = [0, 2]
    without_it = history(
        (algorithm, of_state(state, others), of_runs(seen, others), evaluator),
        sizes_of(0.05, 0.02),
        steps=24,
        every=8,
    )[-1]
    survivors = of_state(wild.state, others)
    assert same_bits(survivors, of_state(with_a_calm_neighbour.state, others))
    assert same_bits(survivors, without_it.state)
    for name, value in wild.values.items():
        assert torch.equal(value[others], with_a_calm_neighbour.values[name][others])


def test_measurements_are_missing_from_the_one_at_which_a_run_has_diverged():
    found = history(neural(), sizes_of(0.05, 1e4, 0.02), steps=30, every=1)
    lost = [bool(measurement.diverged[1]) for measurement in found]
    begin = lost.index(True)
    assert 0 < begin < 29
    assert all(lost[begin:])
    for index, measurement in enumerate(found):
        for value in measurement.values.values():
            assert value.dtype == F64
            assert value.isnan().tolist() == [False, index >= begin, False]


class Excursion(Rule):
    """A rule of the user's own, whose head is far away after the third update and back again."""

    name = "excursion"

    def init(self, parameters, observation, generator):
        return parameters, {"count": parameters.head.new_zeros(())}

    def update(self, features, parameters, batch, state):
        return {"count": state["count"] + 1}

    def directions(self, features, parameters, batch, state):
        there = torch.where(state["count"] == 3, 1e9, 0.5)
        body = {name: torch.zeros_like(tensor) for name, tensor in parameters.body.items()}
        return Parameters(body, parameters.head - there, {})


def test_a_run_that_comes_back_stays_lost():
    sizes = StepSizes(*(torch.tensor([1.0, 1.0, 0.0], dtype=F64),) * 3)
    found = history(neural(Excursion()), sizes, steps=6, every=1, scheduled="constant")
    assert [m.diverged.tolist() for m in found] == [[False] * 3] * 2 + [[True, True, False]] * 4
    assert found[-1].state.parameters.head[:2].unique().tolist() == [0.5]
    assert found[-1].values["error/rmspbe"].isnan().tolist() == [True, True, False]


def test_a_run_that_was_lost_before_resuming_stays_lost():
    lost = torch.tensor([False, False, True])
    (only,) = history(neural(), sizes_of(*CALM), steps=5, every=5, start=4, diverged=lost)
    assert only.diverged.tolist() == [False, False, True]
    assert only.values["norm/head"].isnan().tolist() == [False, False, True]


def test_a_population_of_lost_runs_is_measured_without_a_failure():
    found = history(neural(), sizes_of(1e9, 1e9, 1e9), steps=40, every=39)
    assert bool(found[-1].diverged.all())
    assert all(bool(value.isnan().all()) for value in found[-1].values.values())


RESUMED = {
    "markov": ("tdc", MarkovSampling(3), SGD, "none"),
    "replay": ("generalized", ReplaySampling(4, 7), SGD, "ball:5"),
    "rmsprop": ("tdc", IidSampling(5), Optimizer("rmsprop", "rmsprop", "sgd"), "none"),
    "statistics": ("semi_gradient+lstd", IidSampling(5), SGD, "none"),
    "trace": ("etd", MarkovSampling(), SGD, "none"),
}


@pytest.mark.parametrize(
    ("rule", "sampling", "optimizer", "constraint"), RESUMED.values(), ids=RESUMED
)
def test_resuming_from_a_state_in_the_middle_gives_the_bits_of_the_whole(
    rule, sampling, optimizer, constraint
):
    setting = neural(rule, optimizer=optimizer, constraint=constraint)
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


def test_several_updates_in_a_chunk_are_the_updates_one_by_one():
    algorithm, state, seen, _ = neural()
    sampling, sizes = ReplaySampling(3), sizes_of(*CALM)
    one, three = (updates(algorithm, schedule("general"), sampling, count) for count in (1, 3))
    chunk, update = three(state, seen, torch.tensor(7), sizes)
    assert int(update) == 10
    single, update = state, torch.tensor(7)
    for _ in range(3):
        single, update = one(single, seen, update, sizes)
    assert same_bits(chunk, single)


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


def test_single_precision_stays_single_and_is_judged_in_double():
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
        measure_every=1,
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
        measure_every=1,
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
