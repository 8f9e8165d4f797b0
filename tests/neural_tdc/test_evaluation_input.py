"""What `evaluate` refuses, each in one line."""

import math

import pytest
import torch

from neural_tdc.learning.optimisers import PartOptimizers, adam
from tests.neural_tdc.constant_reward import STREAMS, cycle, quick


def with_number(field, value, stream=1, time=4):
    transitions = cycle(streams=STREAMS)
    leaf = getattr(transitions, field).clone()
    leaf[stream, time] = value
    return transitions._replace(**{field: leaf})


REFUSED = {
    "steps": ({"steps": 0}, "steps is 0; it must be at least 1"),
    "runs": ({"runs": 0}, "runs is 0; it must be at least 1"),
    "batch": ({"batch": -1}, "batch is -1; it must be at least 1"),
    "measure_every": ({"measure_every": 0}, "measure_every is 0; it must be at least 1"),
    "sampling": ({"sampling": "online"}, "'online' is not one of markov, iid, replay"),
    "rule": ({"rule": "tcd"}, "did you mean"),
    "composition": ({"rule": "mspbe+vtrace"}, "goes with the bodies"),
    "optimizer": ({"optimizer": "adma"}, "optimizer 'adma' is not one of sgd, rmsprop, adam"),
    "one of the optimizers": ({"optimizer": ("sgd", "sdg", "sgd")}, "optimizer 'sdg'"),
    "limit": ({"max_grad_norm": 0.0}, "max_grad_norm is 0; it must be finite and above 0"),
    "limit of an own optimizer": (
        {"optimizer": PartOptimizers(adam()), "max_grad_norm": 1.0},
        "max_grad_norm is for optimizers given by name",
    ),
    "an idle optimizer": (
        {"rule": "td", "optimizer": ("sgd", "adam", "rmsprop")},
        "optimizer has no effect on the auxiliary of rule 'td': ",
    ),
    "an idle optimizer of one's own": (
        {"rule": "semi_gradient+lstd", "optimizer": PartOptimizers(head=adam())},
        "optimizer has no effect on the head of rule 'semi_gradient+lstd'",
    ),
    "an optimizer of a given body": (
        {"body": None, "optimizer": ("adam", "sgd", "sgd")},
        "optimizer has no effect on the body of",
    ),
    "an optimizer where nothing steps": (
        {"rule": "frozen+lstd", "optimizer": "adam"},
        "no effect on the body and head and auxiliary of rule 'frozen",
    ),
    "average": ({"average": "body"}, "average 'body' is not one of none, head, all"),
    "average of nothing": (
        {"average": "head", "steps": 4, "average_after": 4},
        "average_after is 4; it must be below the 4 steps",
    ),
    "average after": ({"average": "all", "average_after": -1}, "average_after is -1"),
    "reward scale": ({"reward_scale": 0.0}, "reward scale '0.0' is not auto, none or a finite"),
    "schedule": ({"schedule": "cosine"}, "schedule 'cosine'"),
    "constraint": ({"constraint": "ball"}, "constraint 'ball'"),
    "held_out none": ({"held_out": 0.0}, "held_out is 0"),
    "held_out all": ({"held_out": 1.0}, "held_out is 1"),
    "held_out too much": ({"held_out": 0.999}, "of 60 transitions both parts must have some"),
    "negative step": ({"body_step": -0.1}, "body_step is -0.1"),
    "infinite step": ({"head_step": math.inf}, "head_step is inf"),
    "no step": ({"auxiliary_step": math.nan}, "auxiliary_step is nan"),
    "order and replay": (
        {"rule": "etd", "sampling": "replay"},
        "'etd' needs an ordered stream and batch 1: sampling 'markov' and batch 1, not 'replay'",
    ),
    "order and i.i.d.": ({"rule": "etd", "sampling": "iid"}, "not 'iid' and 1"),
    "order and batches": ({"rule": "etd", "batch": 2}, "not 'markov' and 2"),
    "given features": ({"rule": "ttn", "body": None}, "needs neural features"),
    "body": ({"body": lambda shape: torch.nn.Linear(2, 3)}, "body: Linear cannot take"),
}


@pytest.mark.parametrize(("options", "named"), REFUSED.values(), ids=REFUSED.keys())
def test_a_setting_that_cannot_be_is_refused_in_one_line(options, named):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refusal:
        quick(**options)
    assert named in str(refusal.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "field", ["observation", "reward", "discount", "next_observation", "ratio"]
)
def test_a_number_that_is_not_finite_is_named_with_its_stream_and_time(field, value):
    with pytest.raises(ValueError, match=rf"^{field} is not finite at time 4 of stream 1$"):
        quick(with_number(field, value))


def test_one_bad_number_in_the_middle_of_an_observation_is_enough():
    transitions = cycle(streams=STREAMS)
    transitions.observation[2, 59, 3] = math.nan
    with pytest.raises(ValueError, match="observation is not finite at time 59 of stream 2"):
        quick(transitions)


def test_a_discount_or_a_ratio_out_of_range_is_refused():
    for field, value in (("discount", 1.1), ("discount", -0.1), ("ratio", -1.0)):
        with pytest.raises(ValueError, match=rf"^{field} must"):
            quick(with_number(field, value))


def test_fields_that_do_not_fit_are_refused_by_name():
    transitions = cycle(streams=STREAMS)
    for field, leaf in (
        ("ratio", transitions.ratio[:, :-1]),
        ("discount", transitions.discount[:2]),
        ("ratio", transitions.ratio[..., None]),
        ("observation", transitions.observation[0]),
        ("first", torch.zeros(STREAMS)),
    ):
        with pytest.raises(ValueError, match=rf"^{field} [^\n]*$"):
            quick(transitions._replace(**{field: leaf}))
    with pytest.raises(ValueError, match="differ in shape"):
        quick(transitions._replace(next_observation=transitions.next_observation[..., :4]))
    with pytest.raises(ValueError, match=r"^[^\n]*$"):
        quick(transitions._replace(reward=transitions.reward[..., None]))


@pytest.mark.parametrize("time", [0, 1])
def test_a_stream_too_short_for_two_parts_is_refused(time):
    with pytest.raises(ValueError, match=f"of {time} transitions both parts must have some"):
        quick(cycle(time=time))


def test_two_transitions_are_enough():
    assert quick(cycle(time=2), held_out=0.5).steps == [1, 5, 6]


def test_evaluating_leaves_the_given_transitions_and_the_global_generator_alone():
    transitions = cycle(streams=STREAMS)
    copies = [leaf.clone() for leaf in transitions[:5]]
    state = torch.get_rng_state()
    quick(transitions, sampling="replay")
    assert all(torch.equal(leaf, copy) for leaf, copy in zip(transitions, copies))
    assert torch.equal(torch.get_rng_state(), state)
