"""`evaluate`: transitions in, value function and measurements out."""

import inspect
import math

import pytest
import torch
from torch.utils._pytree import tree_map

from neural_tdc import RULES, Evaluation, Parameters, Transition, evaluate
from neural_tdc.learning.optimisers import PartOptimizers, rmsprop
from neural_tdc.rules.rule import Rule
from tests.neural_tdc.constant_reward import STATES, STREAMS, cycle, quick, small

F64 = torch.float64


def same(left, right):
    """Tell whether two evaluations have the same bits."""
    return all(
        torch.equal(left.parameters.body[name], tensor)
        for name, tensor in right.parameters.body.items()
    ) and torch.equal(left.parameters.head, right.parameters.head)


# --- what comes out


def test_the_value_of_a_constant_reward_is_found_on_given_features():
    settings = {"rule": "td", "steps": 150, "head_step": 2.5, "sampling": "iid", "batch": 20}
    result = evaluate(cycle(300), body=None, measure_every=100, **settings)
    assert (result.value(torch.eye(STATES)) - 10).abs().max() < 0.1
    error = result.measurements["error/rmspbe"][:, 0]
    assert result.steps == [1, 101, 150]
    assert float(error[-1]) < 0.05 * float(error[0])


def test_least_squares_find_it_at_once():
    rule = RULES["frozen+lstd"].with_settings(lstd_window=10**6, lstd_epsilon=1e-6)
    result = evaluate(cycle(200, dtype=F64), body=None, rule=rule, steps=100)
    assert (result.value(torch.eye(STATES, dtype=F64)) - 10).abs().max() < 1e-2


def test_a_neural_body_learns_too():
    result = evaluate(
        cycle(300),
        body=small,
        rule="td",
        steps=60,
        head_step=0.5,
        body_step=0.05,
        sampling="iid",
        batch=20,
    )
    error = result.measurements["error/rmspbe"][:, 0]
    assert float(error[-1]) < 0.2 * float(error[0])
    assert (result.value(torch.eye(STATES)) - 10).abs().max() < 1


def test_what_comes_back_has_these_shapes():
    result = quick(runs=2)
    assert isinstance(result, Evaluation)
    assert result.steps == [1, 5, 6]
    assert result.parameters.head.shape == (2, 3)
    assert result.parameters.body["0.weight"].shape == (2, 4, STATES)
    assert result.diverged.tolist() == [False, False]
    assert {tuple(value.shape) for value in result.measurements.values()} == {(3, 2)}
    assert {"error/rmspbe", "error/rmstde", "tracking_error/head", "norm/body"} <= set(
        result.measurements
    )
    assert "error/rmsve" not in result.measurements


def test_the_value_of_a_run_is_its_network_written_out():
    result = quick(runs=2)
    observation = torch.randn(7, STATES, generator=torch.Generator().manual_seed(0))
    for run in range(2):
        body = {name: tensor[run] for name, tensor in result.parameters.body.items()}
        hidden = (observation @ body["0.weight"].T + body["0.bias"]).tanh()
        features = (hidden @ body["2.weight"].T + body["2.bias"]).tanh()
        expected = features @ result.parameters.head[run]
        assert torch.allclose(result.value(observation, run=run), expected, atol=1e-6)


def test_the_value_is_the_mean_over_the_runs_that_did_not_diverge():
    head = torch.tensor([[1.0, 2.0], [math.inf, 0.0], [3.0, -2.0]])
    lost = torch.tensor([False, True, False])
    result = Evaluation(Parameters({}, head, torch.zeros(3, 0)), lambda _, x: x, [1], {}, lost)
    observation = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert result.value(observation).tolist() == [2.0, 2.0]
    assert result.value(observation, run=0).tolist() == [1.0, 3.0]


def test_a_run_that_diverges_is_counted_and_its_measurements_are_missing():
    result = quick(runs=2, body=None, rule="td", head_step=1e4, steps=20)
    assert result.diverged.tolist() == [True, True]
    assert bool(result.measurements["error/rmspbe"][-1].isnan().all())
    assert bool(result.measurements["error/rmspbe"][0].isfinite().all())


# --- what goes in


def test_one_stream_may_come_without_its_axis():
    transitions = cycle()
    with_axis = Transition(*(leaf[None] for leaf in transitions[:5]))
    assert same(quick(transitions), quick(with_axis))


def test_runs_take_the_streams_in_turn():
    result = quick(cycle(streams=2), runs=3, body=None)
    head = result.parameters.head
    assert torch.equal(head[0], head[2])
    assert not torch.equal(head[0], head[1])


def test_a_run_does_not_depend_on_the_number_of_runs():
    few, many = (quick(cycle(streams=STREAMS), runs=runs, sampling="iid") for runs in (1, 3))
    assert torch.allclose(few.parameters.head[0], many.parameters.head[0], atol=1e-7)
    name = "0.weight"
    assert torch.allclose(few.parameters.body[name][0], many.parameters.body[name][0], atol=1e-7)


@pytest.mark.parametrize("sampling", ["markov", "iid", "replay"])
def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(sampling):
    one, two = (quick(runs=2, sampling=sampling, seed=3) for _ in range(2))
    assert same(one, two)
    for name, value in one.measurements.items():
        assert torch.equal(value, two.measurements[name])
    assert not same(one, quick(runs=2, sampling=sampling, seed=4))


def test_the_last_part_of_a_stream_is_measured_on_and_not_learned_from():
    transitions = cycle()
    # Of 60 transitions a fifth is held out: the last 12.
    reward = transitions.reward.clone()
    reward[48:] = 7.0
    later = quick(transitions._replace(reward=reward), sampling="iid", batch=50)
    reference = quick(transitions, sampling="iid", batch=50)
    assert same(later, reference)
    error = "error/rmspbe"
    assert not torch.equal(later.measurements[error], reference.measurements[error])
    reward = transitions.reward.clone()
    reward[47] = 7.0
    earlier = quick(transitions._replace(reward=reward), sampling="iid", batch=50)
    assert not same(earlier, reference)


def test_the_precision_is_that_of_the_rewards():
    assert quick(cycle(dtype=F64)).parameters.head.dtype == F64
    assert quick(cycle()).parameters.head.dtype == torch.float32
    whole = cycle()
    whole = whole._replace(reward=whole.reward.long())
    assert quick(whole).parameters.head.dtype == torch.float32


def test_the_auxiliary_step_is_the_heads_if_not_given():
    given = quick(head_step=0.3, auxiliary_step=0.3)
    assert same(quick(head_step=0.3), given)
    # With ω standing still at 0, TDC's head is TD's and another one.
    assert not same(quick(head_step=0.3, auxiliary_step=0.0), given)


def test_a_body_step_of_zero_leaves_the_body_alone():
    still, moving = quick(rule="td", body_step=0.0, steps=1), quick(rule="td", body_step=0.1)
    again = quick(rule="td", body_step=0.0, steps=12, head_step=0.1)
    name = "0.weight"
    assert torch.equal(still.parameters.body[name], again.parameters.body[name])
    assert not torch.equal(still.parameters.body[name], moving.parameters.body[name])


def test_settings_reach_the_learner():
    reference = quick(head_step=0.3)
    for options in (
        {"schedule": "general"},
        {"constraint": "ball:0.1"},
        {"optimizer": "rmsprop"},
        {"optimizer": PartOptimizers(head=rmsprop())},
        {"optimizer": "adam"},
        {"optimizer": ("sgd", "adam", "sgd")},
        {"max_grad_norm": 0.1},
        {"schedule": "linear"},
        {"average": "head"},
        {"average": "all"},
        {"reward_scale": 3.0},
        {"batch": 3},
        {"rule": "gtd2"},
        {"rule": "semi_gradient+lstd"},
    ):
        assert not same(quick(head_step=0.3, **options), reference), options


def test_progress_is_told_the_number_of_updates():
    on_progress = []
    quick(progress=on_progress.append)
    assert on_progress == [1, 5, 6]


class Own(Rule):
    """A rule of the user's own: TD, with half the step for the body, on one run."""

    name = "own"

    def __init__(self):
        self.seen = []

    def init(self, parameters, observation, generator):
        self.seen.append(tuple(observation.shape))
        return parameters, {"updates": torch.zeros(())}

    def update(self, features, parameters, batch, state):
        return {"updates": state["updates"] + 1}

    def directions(self, features, parameters, batch, state):
        directions = RULES["td"].directions(features, parameters, batch)
        body = {name: 0.5 * tensor for name, tensor in directions.body.items()}
        return directions._replace(body=body)


def test_a_rule_of_the_users_own_is_taken():
    own = Own()
    assert same(quick(rule=own, body_step=0.2), quick(rule="td", body_step=0.1))
    assert own.seen == [(48, STATES)]


def test_an_object_that_is_no_rule_is_refused_in_one_line():
    # Without the type checks of the tests, as a user would call it.
    with pytest.raises(
        ValueError, match=r"^rule is of type object; it must be a neural_tdc\.Rule$"
    ):
        inspect.unwrap(evaluate)(cycle(), rule=object())


def test_a_rule_with_no_more_than_directions_is_taken():
    class Still(Rule):
        name = "still"

        def directions(self, features, parameters, batch, state):
            return tree_map(torch.zeros_like, parameters)

    assert (quick(rule=Still()).parameters.head == 0).all()
    with pytest.raises(ValueError, match="'still' learns a body: it needs neural features"):
        quick(rule=Still(), body=None)
    with pytest.raises(ValueError, match="rule 'still' has no setting trace_decay"):
        quick(rule=Still(), trace_decay=0.5)


def test_emphatic_td_takes_a_stream_in_its_order():
    assert quick(rule="etd").parameters.head.abs().max() > 0
