"""Logs of pictures stay bytes until they are used: the same results, and little memory."""

import gc
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.logged_task import logged_task
from agents.resampled_task import resampled
from agents.starts import start_states
from envs.logs.logged_problem import logged_problem
from neural_tdc.learning.experience import gather
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters

TIME = 60
# What malloc keeps of memory that was given back; as numbers the pictures take 460 MB.
KEPT = 64e6


def written(path, dtype, with_next):
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, size=(TIME + 1, 2, 3, 4)).astype(dtype)
    images[:, 0, 0, 0] = 7
    cuts, ends = np.zeros(TIME, bool), np.zeros(TIME, bool)
    cuts[20], ends[40] = True, True
    arrays = {"observation": images[:-1], "next_observation": images[1:]}
    if not with_next:
        del arrays["next_observation"]
    np.savez(path, reward=draws.normal(size=TIME), terminated=ends, truncated=cuts, **arrays)
    return path


def policy(observation):
    """Return probabilities of three actions that depend on the raw pictures."""
    scores = torch.stack([observation.flatten(1).mean(1) / 64, *2 * [torch.ones(len(observation))]])
    return scores.T.softmax(1)


def aimed(observation):
    """Return continuous actions about the mean of the raw pictures."""
    return torch.distributions.Normal(observation.flatten(1).mean(1, keepdim=True) / 256, 0.1)


# A continuous action is an input of a body, not of given features.
@pytest.mark.parametrize(
    ("kind", "given"),
    [("v", True), ("discrete", False), ("discrete", True), ("continuous", False)],
)
def test_given_features_and_values_of_actions_are_learned_from_bytes(tmp_path, kind, given):
    draws = np.random.default_rng(1)
    seen = draws.integers(0, 256, size=(TIME, *([5] if given else [2, 3, 4])))
    ends = np.arange(TIME) % 9 == 8
    action = draws.integers(0, 3, TIME) if kind == "discrete" else draws.normal(size=(TIME, 1))
    arrays = {"reward": draws.normal(size=TIME), "terminated": ends, "truncated": 0 * ends}
    tasks = []
    for dtype in ("uint8", "float32"):
        path = tmp_path / f"{dtype}.npz"
        np.savez(path, observation=seen.astype(dtype), action=action, **arrays)
        chosen = {"v": None, "discrete": policy, "continuous": aimed}[kind]
        problem = logged_problem(path, 0.9, chosen, ratios=False)
        tasks.append(logged_task(problem, runs=2, given=given, of_actions=kind != "v"))
    of_bytes, of_numbers = tasks
    assert of_bytes.experience.table.dtype == torch.uint8
    assert of_numbers.experience.table is None
    torch.testing.assert_close(of_bytes.example, of_numbers.example)
    times = torch.tensor([[3, 8, 9, 0], [20, 2, 2, 35]])
    for one, other in zip(*(gather(task.experience, times, 5) for task in tasks)):
        torch.testing.assert_close(one, other)
    starts = [start_states(task) for task in tasks]
    torch.testing.assert_close(starts[0].observation, starts[1].observation)
    torch.testing.assert_close(starts[0].weight, starts[1].weight)
    drawn = {"v": 1, "discrete": 1, "continuous": 8}[kind]
    assert len(starts[0].observation) == drawn * starts[0].weight.shape[1]
    width = of_numbers.example.shape[1:].numel()
    weight = torch.randn(2, 5, width, generator=torch.Generator().manual_seed(0)).double() / width
    parameters = Parameters({"weight": weight}, weight[:, :, 0], {"tdc": weight[:, :, 1]})
    one, other = (task.evaluator(features, RULES["tdc"])(parameters) for task in tasks)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-5)


def features(body, observation):
    return torch.tanh(observation.flatten(1) @ body["weight"].T)


@pytest.mark.parametrize("with_next", [False, True])
def test_bytes_are_learned_from_and_measured_as_numbers_are(tmp_path, with_next):
    tasks = [
        logged_task(
            logged_problem(written(tmp_path / f"{dtype}.npz", dtype, with_next), 0.9), runs=2
        )
        for dtype in ("uint8", "float32")
    ]
    of_bytes, of_numbers = tasks
    assert of_bytes.experience.table.dtype == torch.uint8
    torch.testing.assert_close(of_bytes.shift, of_numbers.shift)
    torch.testing.assert_close(of_bytes.scale, of_numbers.scale)
    torch.testing.assert_close(of_bytes.example, of_numbers.example)
    times = torch.arange(40).expand(2, 40)
    for one, other in zip(*(gather(task.experience, times) for task in tasks)):
        torch.testing.assert_close(one, other)
    weight = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(0)).double()
    parameters = Parameters({"weight": weight}, weight[:, :, 0], {"tdc": weight[:, :, 1]})
    one, other = (task.evaluator(features, RULES["tdc"])(parameters) for task in tasks)
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-5, atol=1e-6)


def test_resampled_runs_have_the_units_of_the_pictures(tmp_path):
    path = written(tmp_path / "a.npz", "uint8", True)
    task = logged_task(logged_problem(path, 0.9), runs=1)
    seen = gather(resampled(task, 3, 0).experience, torch.arange(9).expand(3, 9)).observation
    assert seen.dtype == torch.float32
    # Run 0 has the log as it is.
    torch.testing.assert_close(seen[0], task.experience.observed(torch.arange(9)))


def most_memory():
    """Return the most bytes that this process has held since it last forgot."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is not told here")
def test_100_000_pictures_take_at_most_one_and_a_half_times_their_bytes(tmp_path):
    rows, path = 100_000, tmp_path / "pictures.npz"
    ends = np.zeros(rows, bool)
    ends[499::500] = True
    images = np.frombuffer(np.random.default_rng(0).bytes(rows * 576), np.uint8)
    np.savez(
        path,
        observation=images.reshape(rows, 1, 24, 24),
        reward=np.zeros(rows),
        terminated=ends,
        truncated=np.zeros(rows, bool),
    )
    size = images.nbytes
    del images
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = most_memory()
    task = logged_task(logged_problem(path, 0.9), runs=1)
    weight = torch.ones(1, 2, 576, dtype=torch.float64)
    task.evaluator(features, RULES["td"])(Parameters({"weight": weight}, weight[:, :, 0], {}))
    assert most_memory() - before < 1.5 * size + KEPT
    assert task.experience.table.nbytes == size
