"""Where episodes start, ρ(π) there, and tasks whose runs learn from resamples."""

import pytest
import torch

from agents.policy_evaluation import chain_task
from agents.resampled_task import evidence, resampled
from agents.starts import start_states, with_start_values
from agents.task import Task
from agents.task_actions import MOST_STARTS
from envs.finite.standard_problems import boyan, garnet, random_walk_tabular
from neural_tdc.learning.experience import Experience
from neural_tdc.networks.feature_map import given_features
from neural_tdc.types import Parameters, Transition

KEY = torch.zeros(3, dtype=torch.int64)


def task_of(first, rows=None, runs=3):
    """Make a task whose observations are stream · 100 + time."""
    streams, time = first.shape
    number = 100.0 * torch.arange(streams)[:, None] + torch.arange(time)
    zero = torch.zeros(streams, time)
    transitions = Transition(number[..., None], zero, zero, number[..., None], zero + 1, first)
    experience = Experience(transitions, None, torch.arange(runs) % streams, KEY[:runs], rows=rows)
    nothing = torch.zeros(0)
    return Task("x", experience, nothing, None, True, None, None, False, None, None, ())


FIRST = torch.tensor([[0.0, 0, 1, 0], [1, 0, 0, 1]])


def test_the_starts_are_those_of_all_streams_and_shared_by_all_runs():
    starts = start_states(task_of(FIRST))
    assert starts.observation[:, 0].tolist() == [0, 2, 100, 103]
    assert starts.weight.tolist() == [[0.25] * 4]


def test_a_resampled_run_has_a_start_as_often_as_its_row():
    rows = torch.tensor([[0, 1, 2, 3], [2, 3, 2, 3], [1, 1, 1, 1]])
    starts = start_states(task_of(FIRST[:1], rows))
    assert starts.observation[:, 0].tolist() == [0, 2]
    # The last run has drawn no start: it has both.
    assert starts.weight.tolist() == [[0.5, 0.5], [0, 1], [0.5, 0.5]]


def test_of_many_starts_some_are_taken_evenly():
    starts = start_states(task_of(torch.ones(1, 3 * MOST_STARTS), runs=1))
    assert len(starts.observation) == MOST_STARTS
    assert starts.observation[0] == 0
    assert starts.observation[-1] == 3 * MOST_STARTS - 1
    assert float(starts.weight.sum()) == pytest.approx(1)


def test_starts_in_the_same_state_of_a_chain_are_counted_together():
    task = chain_task(boyan(), given=True, runs=2, transitions=500, seed=0)
    starts = start_states(task)
    assert torch.equal(starts.observation, task.experience.table[:1])
    assert starts.weight.tolist() == [[1.0]]


@pytest.mark.parametrize("threads", [None, 2])
def test_the_mean_value_of_the_starts_is_measured_next_to_the_other_metrics(threads):
    rows = torch.tensor([[0, 1, 2, 3], [2, 3, 2, 3], [0, 1, 0, 1]])
    starts = start_states(task_of(FIRST[:1], rows))
    evaluator = with_start_values(lambda parameters: {"a": KEY}, given_features, starts, threads)
    head = torch.tensor([[1.0], [10.0], [100.0]]).double()
    found = evaluator(Parameters({}, head, {}))
    assert set(found) == {"a", "value/starts"}
    # Starts 0 and 2: their mean, the second, the first.
    assert found["value/starts"].tolist() == [1, 20, 0]


def test_resampling_keeps_the_first_stream_and_tells_what_was_drawn():
    whole = chain_task(random_walk_tabular(), given=True, runs=1, transitions=400, seed=0)
    alone = chain_task(random_walk_tabular(), given=True, runs=3, transitions=400, seed=0)
    task = resampled(whole, 3, 0)
    assert torch.equal(task.experience.transitions.reward, alone.experience.transitions.reward[:1])
    assert torch.equal(task.experience.key, alone.experience.key)
    assert task.experience.rows.shape == (3, 400)
    assert task.experience.stream_index.tolist() == [0, 0, 0]
    episodes = int(task.experience.transitions.first.sum())
    assert task.resampled == f"{episodes} episodes"
    assert f"from {episodes} episodes of them" in task.notes[-1]
    assert not task.truncates


def test_blocks_of_a_continuing_stream_are_cuts():
    task = resampled(chain_task(garnet(), given=True, runs=1, transitions=400, seed=0), 3, 0)
    assert task.resampled == "5 blocks"
    assert task.truncates


def rows_with(ratio, first=None):
    ratio = torch.tensor(ratio)
    zero = torch.zeros_like(ratio)
    return Transition(zero[:, None], zero, zero, zero[:, None], ratio, first)


def test_on_policy_data_of_many_episodes_warn_of_nothing():
    data = evidence(rows_with([1.0] * 30, torch.ones(30)))
    assert str(data) == ""
    assert data.warnings() == []
    assert (data.effective, data.largest) == (30, 1)


def test_few_episodes_and_weight_on_one_row_are_warned_of():
    data = evidence(rows_with([0.0] * 38 + [1.0, 9.0], torch.ones(40)))
    assert str(data) == "effective sample size 1 of 40 transitions, largest ratio 9"
    assert data.warnings() == [
        "warning: the importance ratios leave 1 of 40 transitions in effect",
        "warning: one transition has 90% of the weight of all 40",
    ]
    few = evidence(rows_with([1.0] * 6, torch.tensor([1.0, 0, 0, 1, 0, 0])))
    (line,) = few.warnings()
    assert line.startswith("warning: the data hold 2 episodes, too few")
    (line,) = evidence(rows_with([1.0] * 6)).warnings()
    assert line.startswith("warning: the data hold")
