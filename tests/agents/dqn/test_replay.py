"""Replay of single frames, against a slow reference that keeps every episode as a list."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.dqn.replay import Replay, replay_bytes
from neural_tdc import device_memory

GAMMA = 0.9


class Episodes:
    """What happened in one environment, as lists of steps; `at` is the time a frame was shown."""

    def __init__(self):
        self.episodes = []

    def begin(self, at, frame):
        self.episodes.append([{"at": at, "frame": frame, "step": None}])

    def take(self, step, at, frame):
        self.episodes[-1][-1]["step"] = step
        self.episodes[-1].append({"at": at, "frame": frame, "step": None})

    def transitions(self, stack, n, limit):
        """Return {time: (observation, action, return, discount, next observation)} of all time."""
        found = {}
        for episode in self.episodes:

            def observation(place, episode=episode):
                shown = [episode[i]["frame"] for i in range(place + 1)]
                padded = [np.zeros_like(shown[0])] * stack + shown
                return np.concatenate(padded[-stack:])

            for place, moment in enumerate(episode):
                if moment["step"] is None:
                    continue
                total, discount, reached = 0.0, 1.0, place
                for later in range(n):
                    if reached + 1 >= len(episode):
                        break
                    _, reward, terminated, truncated = episode[reached]["step"]
                    total += GAMMA**later * max(-limit, min(limit, reward))
                    discount *= GAMMA
                    reached += 1
                    if terminated:
                        discount = 0.0
                    if terminated or truncated:
                        break
                action = moment["step"][0]
                found[moment["at"]] = (
                    observation(place),
                    action,
                    total,
                    discount,
                    observation(reached),
                )
        return found


def lived(seed, steps, environments, replay, frame_shape, restart=0.03):
    """Let random games run into a replay and into the reference; return the reference."""
    rng = np.random.default_rng(seed)
    kept = [Episodes() for _ in range(environments)]
    time = 0

    def frames():
        # Every frame is unlike every other, and none is zero.
        numbers = 1 + time * environments + np.arange(environments, dtype=np.float32)
        parts = np.linspace(0, 0.5, math.prod(frame_shape), dtype=np.float32)
        return (numbers[:, None] + parts).reshape(environments, *frame_shape)

    def begin_all():
        shown = frames()
        replay.start(shown)
        for each, frame in zip(kept, shown):
            each.begin(time, frame)

    begin_all()
    over = np.zeros(environments, dtype=bool)
    for _ in range(steps):
        time += 1
        if rng.random() < restart:
            begin_all()
            over[:] = False
            continue
        reset = over.copy()
        action = rng.integers(5, size=environments)
        reward = rng.normal(scale=2.0, size=environments).astype(np.float32)
        chance = rng.random(environments)
        game_over = (chance < 0.1) & ~reset
        life_lost = (chance > 0.85) & ~reset
        truncated = (rng.random(environments) < 0.08) & ~reset
        terminated = game_over | life_lost
        shown = frames()
        # What stands in the other fields of a reset means nothing.
        replay.append(action, reward, terminated | reset, truncated, reset, shown)
        for index, each in enumerate(kept):
            if reset[index]:
                each.begin(time, shown[index])
                continue
            step = (action[index], float(reward[index]), terminated[index], truncated[index])
            each.take(step, time, shown[index])
        over = game_over | truncated
    return kept, time


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    steps=st.integers(1, 60),
    environments=st.integers(1, 4),
    stack=st.integers(1, 4),
    n=st.integers(1, 4),
    spare=st.integers(1, 25),
    limit=st.sampled_from([None, 1.0]),
)
def test_what_can_be_drawn_is_what_the_reference_says(
    seed, steps, environments, stack, n, spare, limit
):
    times = stack + n + spare
    replay = Replay(
        times * environments,
        environments,
        (2, 3),
        dtype="float32",
        stack=stack,
        steps=n,
        discount=GAMMA,
        reward_limit=limit,
    )
    kept, now = lived(seed, steps, environments, replay, (2, 3))
    oldest = 0 if now < times else now - times + stack
    expected = {}
    for index, each in enumerate(kept):
        for time, transition in each.transitions(stack, n, limit or math.inf).items():
            if oldest <= time <= now - n:
                expected[time, index] = transition
    rows = replay.transitions()
    assert len(rows) == len(replay) == len(expected)
    if not expected:
        return
    batch = replay.at(rows)
    observation, action, reward, discount, following = (leaf.numpy() for leaf in batch[:5])
    last = following.reshape(len(rows), stack, -1)[:, -1, 0].astype(int)
    np.testing.assert_array_equal(batch.next_number, last - 1)
    # The last frame of the stack names time and environment.
    names = observation.reshape(len(rows), stack, -1)[:, -1, 0].astype(int) - 1
    seen = [(name // environments, name % environments) for name in names]
    assert sorted(seen) == sorted(expected)
    for place, key in enumerate(seen):
        wanted = expected[key]
        np.testing.assert_array_equal(observation[place], wanted[0])
        assert action[place] == wanted[1]
        np.testing.assert_allclose(reward[place], wanted[2], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(discount[place], wanted[3], rtol=1e-6)
        np.testing.assert_array_equal(following[place], wanted[4])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), steps=st.integers(0, 40), stack=st.integers(1, 4))
def test_the_latest_observation_is_the_stack_of_the_running_episode(seed, steps, stack):
    replay = Replay(60, 3, (1, 2), dtype="float32", stack=stack)
    kept, _ = lived(seed, steps, 3, replay, (1, 2))
    latest = replay.latest().numpy()
    for index, each in enumerate(kept):
        shown = [moment["frame"] for moment in each.episodes[-1]]
        padded = [np.zeros_like(shown[0])] * stack + shown
        np.testing.assert_array_equal(latest[index], np.concatenate(padded[-stack:]))


def one_step(replay, number, reward=0.0, terminated=False, truncated=False, reset=False):
    replay.append(
        np.array([number]),
        np.array([reward], dtype=np.float32),
        np.array([terminated]),
        np.array([truncated]),
        np.array([reset]),
        np.full((1, 1, 2, 2), number, dtype=np.uint8),
    )


def test_three_step_returns_by_hand():
    replay = Replay(20, 1, (1, 2, 2), stack=2, steps=3, discount=0.5, reward_limit=1.0)
    replay.start(np.full((1, 1, 2, 2), 10, dtype=np.uint8))
    one_step(replay, 11, reward=1.0)
    one_step(replay, 12, reward=5.0)
    one_step(replay, 13, reward=-0.5)
    one_step(replay, 14, reward=2.0, truncated=True)
    one_step(replay, 20, reset=True)
    one_step(replay, 21, reward=1.0)
    one_step(replay, 22, reward=1.0, terminated=True)
    one_step(replay, 23, reward=1.0)
    one_step(replay, 24, reward=1.0)
    batch = replay.at(replay.transitions())
    # 5 is learned from as 1; the truncated episode gives its rest to the network, a lost life none.
    assert batch.reward.tolist() == [1 + 0.5 - 0.125, 1 - 0.25 + 0.25, -0.5 + 0.5, 1.0, 1.5, 1.0]
    assert batch.discount.tolist() == [0.125, 0.125, 0.25, 0.5, 0.0, 0.0]
    assert batch.next_observation[:, :, 0, 0].tolist() == [
        [12, 13],
        [13, 14],
        [13, 14],
        [13, 14],
        [21, 22],
        [21, 22],
    ]
    assert batch.observation[:, :, 0, 0].tolist()[0] == [0, 10]
    assert batch.observation[:, :, 0, 0].tolist()[4] == [0, 20]
    assert batch.observation.dtype == torch.uint8


def test_the_true_last_observation_of_an_episode_follows_its_last_step():
    replay = Replay(20, 1, (1, 2, 2), stack=3)
    replay.start(np.full((1, 1, 2, 2), 1, dtype=np.uint8))
    one_step(replay, 2)
    one_step(replay, 3, truncated=True)
    one_step(replay, 9, reset=True)
    one_step(replay, 10)
    one_step(replay, 11)
    last = replay.at(replay.transitions())
    assert last.next_observation[:, :, 0, 0].tolist() == [
        [0, 1, 2],
        [1, 2, 3],
        [0, 9, 10],
        [9, 10, 11],
    ]


def test_draws_are_uniform_over_what_is_there_and_repeatable():
    replay = Replay(12, 1, (1, 2, 2))
    replay.start(np.zeros((1, 1, 2, 2), dtype=np.uint8))
    for number in range(1, 30):
        one_step(replay, number, truncated=number % 5 == 0, reset=number % 5 == 1 and number > 1)
    drawn = replay.sample(6000, torch.Generator().manual_seed(3)).next_observation[:, 0, 0, 0]
    again = replay.sample(6000, torch.Generator().manual_seed(3)).next_observation[:, 0, 0, 0]
    assert torch.equal(drawn, again)
    counts = torch.bincount(drawn.long())
    present = counts[counts > 0]
    assert len(present) == len(replay)
    assert present.min() > 6000 / len(replay) * 0.8
    assert present.max() < 6000 / len(replay) * 1.2


def test_a_reset_in_the_middle_of_an_episode_is_refused():
    replay = Replay(12, 1, (1, 2, 2))
    replay.start(np.zeros((1, 1, 2, 2), dtype=np.uint8))
    one_step(replay, 1)
    with pytest.raises(ValueError, match="environment 0 was reset in the middle of an episode"):
        one_step(replay, 2, reset=True)


def test_frames_of_another_shape_and_draws_from_nothing_are_refused():
    replay = Replay(12, 2, (1, 2, 2))
    with pytest.raises(ValueError, match=r"frames of shape \[1, 1, 2, 2\], not \[2, 1, 2, 2\]"):
        replay.start(np.zeros((1, 1, 2, 2), dtype=np.uint8))
    with pytest.raises(ValueError, match="no transition yet"):
        replay.sample(3, torch.Generator())


def test_a_million_atari_frames_take_less_than_7_3_gigabytes():
    device, host = replay_bytes(1_000_000, (1, 84, 84))
    assert device == 7_056_000_000
    assert device + host < 7.3e9
    assert replay_bytes(10, (4,), "float32")[0] == 160


def test_the_estimate_is_what_is_allocated():
    replay = Replay(5000, 2, (1, 8, 8), stack=4)
    device, host = replay_bytes(5000, (1, 8, 8))
    arrays = [replay._starts, *replay._arrays().values()]
    assert sum(array.nbytes for array in arrays) == host
    # One frame more: the zeros before an episode's first.
    assert replay._frames.nbytes == device + 64


def test_a_replay_larger_than_memory_is_refused_before_it_is_allocated(monkeypatch):
    monkeypatch.setattr(device_memory, "_host_bytes", lambda: 1_000_000_000)

    def allocate(*_, **__):
        raise AssertionError("allocated")

    monkeypatch.setattr(torch, "zeros", allocate)
    with pytest.raises(ValueError) as refused:
        Replay(1_000_000, 1, (1, 84, 84), stack=4)
    assert str(refused.value) == (
        "a replay of 1,000,000 frames takes 7.08 GB, and cpu has 1.00 GB available"
    )


def test_a_replay_too_small_for_its_stacks_is_refused():
    with pytest.raises(ValueError, match="need at least 16"):
        Replay(12, 2, (1, 2, 2), stack=4, steps=3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), before=st.integers(0, 45))
def test_a_restored_replay_goes_on_as_the_saved_one(seed, before):
    def make():
        return Replay(40, 2, (1, 2), dtype="float32", stack=3, steps=2)

    one, other = make(), make()
    lived(seed, before, 2, one, (1, 2))
    other.load({**one.state(), "frames": one.state()["frames"].clone()})
    for replay in (one, other):
        lived(seed + 1, 30, 2, replay, (1, 2))
    assert np.array_equal(one.transitions() % 40, other.transitions() % 40)
    for left, right in zip(one.at(one.transitions()), other.at(other.transitions())):
        np.testing.assert_array_equal(left, right)
    assert torch.equal(one.latest(), other.latest())
    assert one.fill == other.fill


def test_a_replay_on_a_device_is_filled_and_drawn_from_without_a_question_to_it(one_device_fed):
    replay = Replay(40, 2, (1, 2), dtype="float32", stack=3, steps=2, device="meta")
    with one_device_fed:
        lived(0, 30, 2, replay, (1, 2))
        batch, now = replay.sample(5, torch.Generator().manual_seed(0)), replay.latest()
    assert {leaf.device.type for leaf in (*batch[:5], now)} == {"meta"}
    assert batch.observation.shape == batch.next_observation.shape == (5, 3, 2)
