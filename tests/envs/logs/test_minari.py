"""Data sets of Minari: made here, and read back as the stream that they were made from."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from envs.logs.logged_problem import logged_problem
from envs.logs.reading import Reading, read_log, source_files

minari = pytest.importorskip("minari", reason="the extra logs is not installed")
EpisodeBuffer = pytest.importorskip("minari.data_collector").EpisodeBuffer
# Minari asks for authors.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))


def made(name, episodes, observation_space, action_space):
    minari.create_dataset_from_buffers(
        name,
        [EpisodeBuffer(id=number, **each) for number, each in enumerate(episodes)],
        observation_space=observation_space,
        action_space=action_space,
        description="of a test",
    )
    return f"minari:{name}"


def collected(episodes, limit):
    """Return episodes, and the arrays of the same stream."""
    environment = gymnasium.make("CartPole-v1", max_episode_steps=limit)
    environment.action_space.seed(1)
    found, rows = [], []
    for number in range(episodes):
        seen, rewards, actions = [environment.reset(seed=number)[0]], [], []
        ends, cuts = [], []
        while not ends or not (ends[-1] or cuts[-1]):
            actions.append(environment.action_space.sample())
            following, reward, end, cut, _ = environment.step(actions[-1])
            rows.append((seen[-1], reward, end, cut, following, actions[-1]))
            seen.append(following)
            rewards.append(reward)
            ends.append(end)
            cuts.append(cut)
        found.append(
            {
                "observations": np.array(seen),
                "actions": np.array(actions),
                "rewards": np.array(rewards),
                "terminations": np.array(ends),
                "truncations": np.array(cuts),
                "infos": {"chance": np.full(len(seen), 0.5)},
            }
        )
    return found, [np.array(column) for column in zip(*rows)], environment


def test_a_data_set_is_the_stream_that_it_was_made_from(store, tmp_path):
    episodes, arrays, environment = collected(5, 25)
    name = made("walk/two-v0", episodes, environment.observation_space, environment.action_space)
    problem = logged_problem(name, 0.9)
    observation, reward, ends, cuts, following, action = arrays
    assert ends.any()
    assert cuts.any()
    stream = problem.transition
    assert np.array_equal(stream.observation[0], observation)
    assert stream.reward[0].tolist() == reward.tolist()
    assert stream.discount[0].tolist() == (0.9 * (1 - ends)).tolist()
    led = np.where(ends[:, None], observation, following)
    assert np.array_equal(stream.next_observation[0], led)
    assert stream.first[0].tolist() == [1, *(ends | cuts)[:-1].astype(float)]
    assert problem.action[0].tolist() == action.tolist()
    assert problem.name == "walk-two-v0"
    assert any(path.name == "main_data.hdf5" for path in source_files(name))

    def half(seen):
        return torch.full((len(seen), 2), 0.5)

    named = Reading({"behaviour_probability": "infos/chance"})
    assert (logged_problem(name, 0.9, half, reading=named).transition.ratio == 1).all()


def test_observations_of_several_parts_and_an_episode_that_was_cut_in_recording(store):
    space = spaces.Dict(goal=spaces.Discrete(3), seen=spaces.Box(-1, 1, (2,), np.float32))
    parts = {
        "goal": np.array([0, 2, 1]),
        "seen": np.array([[0, 0.5], [0.25, 0], [1, -1]], np.float32),
    }
    # Neither terminated nor truncated, though it is the last step.
    episode = {
        "observations": parts,
        "actions": np.array([[0.5], [-0.5]], np.float32),
        "rewards": np.array([1.0, 2.0]),
        "terminations": np.array([False, False]),
        "truncations": np.array([False, False]),
    }
    name = made("parts-v1", [episode, episode], space, spaces.Box(-1, 1, (1,), np.float32))
    problem = logged_problem(name, 0.9)
    rows = [[1, 0, 0, 0, 0.5], [0, 0, 1, 0.25, 0], [0, 1, 0, 1, -1]]
    assert problem.transition.observation[0].tolist() == [*rows[:2], *rows[:2]]
    assert problem.transition.next_observation[0].tolist() == [*rows[1:], *rows[1:]]
    assert problem.transition.first[0].tolist() == [1, 0, 1, 0]
    assert problem.action[0].flatten().tolist() == [0.5, -0.5, 0.5, -0.5]


def test_pictures_stay_bytes_and_a_name_that_is_not_there_is_met_with_those_that_are(store):
    seen = np.arange(3 * 5, dtype=np.uint8).reshape(3, 5, 1)
    episode = {
        "observations": seen,
        "actions": np.array([1, 2]),
        "rewards": np.zeros(2),
        "terminations": np.array([False, True]),
        "truncations": np.array([False, False]),
    }
    name = made(
        "bytes-v0", [episode], spaces.Box(0, 255, (5, 1), np.uint8), spaces.Discrete(2, start=1)
    )
    log = read_log(name)
    assert log.observation.dtype == np.uint8
    assert log.action.tolist() == [0, 1]
    with pytest.raises(
        ValueError, match=r"minari:byte-v0 is not in the local store .* it has bytes-v0; did"
    ):
        read_log("minari:byte-v0")
    with pytest.raises(ValueError, match=r"^minari: names no data set: give minari:ID$"):
        read_log("minari:")
