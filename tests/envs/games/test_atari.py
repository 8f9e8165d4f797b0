"""ale-py's vector environment as it is set up here; skipped where ale-py is missing."""

import importlib
import importlib.util

import numpy as np
import pytest

from envs.games.atari import AtariEnvironments, Protocol
from envs.games.registry import make_environments

there = pytest.mark.skipif(
    importlib.util.find_spec("ale_py") is None, reason="the package ale-py is not installed"
)


def stepped(environments, count, seed=0):
    rng = np.random.default_rng(seed)
    steps = []
    for _ in range(count):
        environments.send(rng.integers(environments.actions, size=environments.count))
        step = environments.receive()
        steps.append(step._replace(frame=step.frame.copy()))
    return steps


@there
def test_single_frames_of_bytes_and_what_a_score_depends_on():
    environments = AtariEnvironments("ALE/Pong-v5", 2, Protocol(sticky_actions=0.25))
    frame = environments.reset(0)
    assert frame.shape == (2, 1, 84, 84)
    assert frame.dtype == np.uint8
    assert environments.actions == 6
    assert environments.protocol["sticky_actions"] == 0.25
    assert environments.protocol["noop_max"] == 30
    assert environments.protocol["environment"] == "ALE/Pong-v5"
    assert environments.state() is None
    with pytest.raises(ValueError, match="cannot be stored"):
        environments.load({})
    environments.close()


@there
def test_a_lost_life_terminates_and_the_game_goes_on_until_a_reset():
    environments = AtariEnvironments("ALE/Breakout-v5", 1, Protocol(fire_reset=True))
    environments.reset(1)
    steps = stepped(environments, 1500)
    terminated = np.array([step.terminated[0] for step in steps])
    reset = np.array([step.reset[0] for step in steps])
    games, lives = int(reset.sum()), int(terminated.sum())
    # Five lives a game: every fifth end is followed by a reset, the others by a step of the game.
    assert games >= 2
    assert lives // 5 == games or lives // 5 == games + 1
    ends = np.flatnonzero(terminated)
    assert [int(reset[end + 1]) for end in ends[: 5 * games]] == [0, 0, 0, 0, 1] * games
    for place in np.flatnonzero(reset):
        assert steps[place].reward[0] == 0
        assert not steps[place].terminated[0]


@there
def test_without_life_loss_only_the_end_of_a_game_terminates():
    environments = AtariEnvironments(
        "ALE/Breakout-v5", 1, Protocol(fire_reset=True, life_loss=False)
    )
    environments.reset(1)
    steps = stepped(environments, 1500)
    terminated = np.array([step.terminated[0] for step in steps])
    reset = np.array([step.reset[0] for step in steps])
    assert reset.sum() >= 2
    assert np.array_equal(np.flatnonzero(reset), np.flatnonzero(terminated)[: reset.sum()] + 1)


@there
def test_a_frame_limit_truncates_and_rewards_are_raw():
    environments = AtariEnvironments("ALE/SpaceInvaders-v5", 1, Protocol(frame_limit=400))
    environments.reset(0)
    steps = stepped(environments, 400)
    truncated = np.array([step.truncated[0] for step in steps])
    reset = np.array([step.reset[0] for step in steps])
    assert truncated.sum() >= 2
    assert np.array_equal(np.flatnonzero(reset), np.flatnonzero(truncated)[: reset.sum()] + 1)
    assert max(step.reward[0] for step in steps) >= 5


@there
def test_the_same_seed_plays_the_same_game_and_environments_differ():
    one, two = (AtariEnvironments("ALE/Qbert-v5", 2) for _ in range(2))
    assert np.array_equal(one.reset(7), two.reset(7))
    firsts, seconds = stepped(one, 60), stepped(two, 60)
    for left, right in zip(firsts, seconds):
        assert all(np.array_equal(a, b) for a, b in zip(left, right))
    assert any(not np.array_equal(step.frame[0], step.frame[1]) for step in firsts)


@there
def test_an_unknown_game_gives_the_nearest_names():
    with pytest.raises(ValueError, match=r"unknown game 'ALE/Pnog-v5' of ale-py; .*ALE/Pong-v5"):
        make_environments("ALE/Pnog-v5", 1)


def test_without_ale_py_the_line_says_what_to_install(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ValueError, match="pip install ale-py"):
        AtariEnvironments("ALE/Pong-v5", 1)
