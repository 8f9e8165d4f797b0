"""Pictures in bytes, used a few at a time, give the values that their numbers give as a whole."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from neural_tdc import Transition, byte_rows, evaluate
from neural_tdc.baselines.log_preparation import joined, ordered_stream
from neural_tdc.baselines.method import learned_values
from neural_tdc.baselines.methods import METHODS
from neural_tdc.baselines.search.learned_candidates import held_out_values, learn_candidates
from neural_tdc.best_value import best_value
from neural_tdc.metrics.selection import bootstrapped_returns

TIME = 230


def streams(off_policy=False):
    """Return a stream of pictures in bytes and the same in float64; episodes of 23 transitions."""
    draws = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (TIME + 1, 1, 2, 3), generator=draws, dtype=torch.uint8)
    frames[:, 0, 0, 0] = 7
    reward = frames[:-1, 0, 1, 1].double() / 255 + torch.rand(TIME, generator=draws).double()
    first = torch.zeros(TIME, dtype=torch.float64)
    first[::23] = 1
    discount = 0.9 * (1 - first.roll(-1))
    ratio = torch.ones(TIME, dtype=torch.float64)
    if off_policy:
        ratio = 0.5 + torch.rand(TIME, generator=draws, dtype=torch.float64)
    of_bytes = Transition(frames[:-1], reward, discount, frames[1:], ratio, first)
    of_numbers = of_bytes._replace(
        observation=frames[:-1].double(), next_observation=frames[1:].double()
    )
    return of_bytes, of_numbers, frames[:50].double()


@pytest.fixture
def few_rows(monkeypatch):
    """Let 40 rows be used at a time, so that blocks end inside episodes."""
    monkeypatch.setattr(byte_rows, "rows_at_once", lambda observation: 40)


def quick(name, **settings):
    method = METHODS[name]
    own = {"updates": 6, "random_features": 12, **settings}
    return method.with_settings(**{key: own[key] for key in own.keys() & method.settings})


@pytest.mark.parametrize("off_policy", [False, True])
@pytest.mark.parametrize(
    "method", [*map(quick, METHODS), quick("stackelberg-td", solves="refits")], ids=str
)
def test_methods_learn_the_same(few_rows, monkeypatch, method, off_policy):
    of_bytes, of_numbers, seen = streams(off_policy)
    found = [value(seen) for value in learned_values(method, [of_bytes] * 2, 0)]
    monkeypatch.setattr(byte_rows, "rows_at_once", lambda observation: 10_000)
    expected = [value(seen) for value in learned_values(method, [of_numbers] * 2, 0)]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("off_policy", [False, True])
def test_the_search_finds_the_same(few_rows, monkeypatch, off_policy):
    of_bytes, of_numbers, seen = streams(off_policy)
    settings = {"width": 10, "updates": 20, "folds": 2, "resamples": 3}
    found = best_value(of_bytes, **settings)
    monkeypatch.setattr(byte_rows, "rows_at_once", lambda observation: 10_000)
    expected = best_value(of_numbers, **settings)
    assert found.chosen == expected.chosen
    assert found.observation_shape == (1, 2, 3)
    torch.testing.assert_close(found.value(seen), expected.value(seen), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.start_values, expected.start_values, rtol=1e-5, atol=1e-5)


class LargeTensors(TorchDispatchMode):
    """Note shape, precision and storage of all tensors of `time` rows or more, of many columns."""

    def __init__(self, time, columns):
        super().__init__()
        self.time, self.columns, self.noted = time, columns, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor) and leaf.numel() >= self.time * self.columns:
                self.noted.add((leaf.shape, leaf.dtype, leaf.untyped_storage().data_ptr()))
        return made


def test_off_policy_the_values_of_all_candidates_are_made_once_in_float32(few_rows):
    candidates = learn_candidates(ordered_stream(streams(off_policy=True)[0]), 2, 0, 4, 0)
    count = len(candidates.names)
    with LargeTensors(TIME // 2, count) as made:
        values = held_out_values(candidates)
        bootstrapped_returns(values, joined(candidates.parts))
    # Only the last transition of a part leads elsewhere.
    assert len(values.apart) == 2
    of_candidates = [each for each in made.noted if each[0] != (count, count)]
    assert [each[:2] for each in of_candidates] == [((TIME, count), torch.float32)]


@pytest.mark.parametrize("rule", ["td", "lstd-random"])
def test_evaluate_learns_and_measures_the_same(rule):
    of_bytes, of_numbers, seen = streams()
    settings = {} if rule == "lstd-random" else {"steps": 20, "sampling": "replay", "batch": 3}
    found, expected = (evaluate(each, rule=rule, **settings) for each in (of_bytes, of_numbers))
    torch.testing.assert_close(found.value(seen), expected.value(seen), rtol=1e-4, atol=1e-5)
    for name, value in found.measurements.items():
        torch.testing.assert_close(value, expected.measurements[name], rtol=1e-4, atol=1e-6)


def own_policy(seen):
    """Return probabilities of two actions that depend on the numbers of a picture."""
    first = 0.2 + 0.6 * (seen[:, 0, 1, 1] > 100).to(seen)
    return torch.stack([first, 1 - first], 1)


def own_draws(seen):
    level = seen[:, 0, 1, :1] / 255
    return torch.distributions.Normal(level, torch.ones_like(level))


@pytest.mark.parametrize(
    "settings",
    [
        {"sampling": "replay", "batch": 3},
        {"sampling": "sequences", "batch": 2, "sequence_length": 4, "trace_decay": 0.7},
        {"policy": own_draws, "measure_on": "host"},
    ],
    ids=["replay", "sequences", "continuous"],
)
def test_values_of_actions_are_the_same(few_rows, settings):
    of_bytes, of_numbers, seen = streams()
    action = torch.randint(2, (TIME,), generator=torch.Generator().manual_seed(1))
    if "policy" in settings:
        action = action.double()[:, None]
    asked = {"values": "q", "action": action, "policy": own_policy, "rule": "td", "steps": 20}
    asked |= {"body_step": 0.1, "head_step": 0.1, **settings}
    expected, found = (evaluate(each, **asked) for each in (of_numbers, of_bytes))
    each = action[:50]
    wanted = expected.value(seen, action=each)
    assert wanted.std() > 0.01
    torch.testing.assert_close(found.value(seen, action=each), wanted)
    torch.testing.assert_close(found.value(seen), expected.value(seen))
    for name, value in found.measurements.items():
        torch.testing.assert_close(value, expected.measurements[name])
