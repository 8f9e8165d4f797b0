import pytest
import torch

from neural_tdc import Transition
from neural_tdc.best_value import best_value

# A walk on the unit interval in small steps, left at both ends: V(s) = 100·s + 7 for γ = 1.
STEP = 0.125


def walk(time=3_000, up=0.5, seed=0):
    """Return a stream whose behaviour goes up with probability `up`, the target with one half."""
    source = torch.Generator().manual_seed(seed)
    draws = torch.rand(time, generator=source, dtype=torch.float64).tolist()
    state, start, rows = 0.5, 1.0, []
    for draw in draws:
        goes_up = draw < up
        after = state + (STEP if goes_up else -STEP)
        ends = after <= 0 or after >= 1
        reward = (107.0 if after >= 1 else 7.0) if ends else 0.0
        ratio = 0.5 / (up if goes_up else 1 - up)
        rows.append(([state, 1.0], reward, 0.0 if ends else 1.0, [after, 1.0], ratio, start))
        state, start = (0.5, 1.0) if ends else (after, 0.0)
    return Transition(*(torch.tensor(leaf, dtype=torch.float64) for leaf in zip(*rows)))


INSIDE = torch.arange(1, 8, dtype=torch.float64) * STEP
STATES = torch.stack([INSIDE, torch.ones(7, dtype=torch.float64)], 1)
TRUTH = 100 * INSIDE + 7


def test_it_finds_the_values_of_a_walk_and_ranks_the_families():
    found = best_value(walk(), width=24, updates=100)
    error = (found.value(STATES) - TRUTH).square().mean().sqrt()
    assert error < 0.3 * TRUTH.std()
    assert found.criterion == "returns"
    families = [row.family for row in found.ranking]
    lstd = {"lstd-random", "lstd-fourier", "lstd-polynomial", "stackelberg-td"}
    assert {*families} == {*lstd, "constant", "fitted"}
    assert found.ranking[0].difference == (0, 0, 0)
    scores = [row.score for row in found.ranking]
    assert scores == sorted(scores)
    by_family = {row.family: row for row in found.ranking}
    assert by_family["constant"].value(STATES).std() < 1e-9
    assert families[-1] in ("constant", "fitted")
    assert {name for name, _ in found.chosen} <= {*families}
    assert found.effective_sample_size == pytest.approx(3_000)


def test_off_policy_it_values_the_target_and_not_the_behaviour():
    found = best_value(walk(6_000, up=0.65), width=24, updates=0)
    assert found.criterion == "bootstrapped returns"
    assert found.effective_sample_size < 5_900
    error = (found.value(STATES) - TRUTH).square().mean().sqrt()
    assert error < 0.4 * TRUTH.std()
    assert "off-policy" in found.notes[0]


def test_off_policy_intervals_are_longer_than_those_over_episodes(monkeypatch):
    stream = walk(800, up=0.65)
    long = best_value(stream, width=8, updates=0).ranking[1].difference
    monkeypatch.setattr("neural_tdc.best_value.WIDENED", 1.0)
    short = best_value(stream, width=8, updates=0).ranking[1].difference
    assert long.mean == short.mean
    assert long.high - long.mean == pytest.approx(15 * (short.high - short.mean))
    assert long.mean - long.low == pytest.approx(15 * (short.mean - short.low))


def test_values_follow_the_unit_of_rewards():
    stream = walk(1_000)
    small, large = (
        best_value(stream._replace(reward=unit * stream.reward), width=16, updates=20)
        for unit in (1.0, 1e6)
    )
    torch.testing.assert_close(large.value(STATES), 1e6 * small.value(STATES), rtol=1e-3, atol=0)


def test_one_seed_gives_one_result():
    found, again, other = (
        best_value(walk(600), seed=seed, width=16, updates=10) for seed in (3, 3, 4)
    )
    assert torch.equal(found.value.head, again.value.head)
    assert not torch.equal(found.value(STATES), other.value(STATES))


def test_streams_behind_one_another_are_one_log():
    parts = [walk(500, seed=seed) for seed in (1, 2)]
    stacked = Transition(*(torch.stack(leaves) for leaves in zip(*parts)))
    joined = Transition(*(torch.cat(leaves) for leaves in zip(*parts)))
    found, expected = (
        best_value(each, width=16, updates=0).value(STATES) for each in (stacked, joined)
    )
    assert torch.equal(found, expected)


def test_a_small_budget_leaves_out_what_does_not_fit():
    found = best_value(walk(600), budget=1e-3)
    assert {row.family for row in found.ranking} == {"constant"}
    assert "the budget left no time" in found.notes[-1]
    assert found.value(STATES).std() == 0


def test_a_log_of_one_episode_is_refused():
    episode = walk(40)
    length = int((episode.discount == 0).nonzero()[0]) + 1
    one = Transition(*(leaf[:length] for leaf in episode))
    with pytest.raises(ValueError, match="holds 1 episode or independent block of"):
        best_value(one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": torch.tensor([0.0, float("nan")])}, r"reward is not finite at \[1\]"),
        ({"discount": torch.tensor([0.5, 1.5])}, r"discount must lie in \[0, 1\]"),
        ({"ratio": torch.tensor([1.0, -1.0])}, "ratio must not be negative"),
        ({"reward": torch.zeros(3)}, r"it must begin with the dimensions of reward, \(3,\)"),
    ],
)
def test_damaged_transitions_are_refused(change, message):
    ones = torch.ones(2)
    stream = Transition(torch.zeros(2, 1), ones, 0.5 * ones, torch.zeros(2, 1), ones)
    with pytest.raises(ValueError, match=message):
        best_value(stream._replace(**change))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width is 0; it must be at least 1"),
        ({"folds": 1}, "folds is 1; it must be at least 2"),
        ({"updates": -1}, "updates is -1; it must be at least 0"),
        ({"budget": 0.0}, "budget is 0 seconds; it must be above 0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        best_value(walk(100), **settings)
