"""Work is shared by processes without a trace in what it gives."""

import os
from functools import partial
from time import sleep

import numpy as np
import pytest
import torch

from envs.control.collection import collect, collected
from envs.control.policies import POLICIES, decisions, drawn, probabilities, uniform
from envs.control.problems import control_problem
from envs.control.recording import record
from envs.control.truth import monte_carlo_truth
from envs.control.workers import equal_parts, in_parallel, shared_array, worker_count


def test_parts_are_of_nearly_equal_size_and_leave_nothing_out():
    assert equal_parts(7, 3) == [slice(0, 2), slice(2, 5), slice(5, 7)]
    assert equal_parts(2, 5) == [slice(0, 1), slice(1, 2)]


def test_parts_run_in_processes_of_their_own_and_answer_in_order():
    numbers = shared_array((3,), np.int64)

    def part(index):
        numbers[index] = 10 * index
        return index, os.getpid()

    answers = in_parallel([partial(part, index) for index in range(3)])
    assert [index for index, _ in answers] == [0, 1, 2]
    assert len({process for _, process in answers}) == 3
    assert numbers.tolist() == [0, 10, 20]


def test_what_a_part_raises_is_raised_here():
    def failing():
        raise ValueError("a policy failed")

    with pytest.raises(ValueError, match="a policy failed"):
        in_parallel([lambda: 0, failing])


def test_an_exception_that_cannot_be_sent_is_named():
    class Own(Exception):
        pass

    def failing():
        raise Own("cannot be sent")

    with pytest.raises(RuntimeError, match="Own: cannot be sent"):
        in_parallel([lambda: 0, failing])


def test_the_death_of_a_process_is_one_clear_error():
    with pytest.raises(RuntimeError, match="died with the status 7"):
        in_parallel([lambda: 0, lambda: os._exit(7)])


def test_a_watch_is_called_here_while_all_parts_are_elsewhere(tmp_path):
    def part(index):
        # Waits for what only the watch makes.
        while not (tmp_path / "watched").exists():
            sleep(0.01)
        return index, os.getpid()

    calls = []

    def watch():
        calls.append(os.getpid())
        # Not at the first call, so that there is a second one.
        if len(calls) > 1:
            (tmp_path / "watched").touch()

    answers = in_parallel([partial(part, index) for index in range(2)], watch)
    assert [index for index, _ in answers] == [0, 1]
    assert {*calls} == {os.getpid()}
    assert len(calls) >= 2
    assert os.getpid() not in {process for _, process in answers}


def test_threads_are_as_before_afterwards():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert in_parallel([torch.get_num_threads] * 2) == [1, 1]
        assert torch.get_num_threads() == 3
        assert (worker_count(10), worker_count(10**6), worker_count(10, 2)) == (1, 3, 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("workers", [2, 3])
def test_streams_have_the_same_bits_for_any_number_of_processes(workers):
    problem = control_problem("CartPole-v1", behaviour="soft")
    one = collect(problem, 7, 90, 3, workers=1)
    several = collect(problem, 7, 90, 3, workers=workers)
    assert all(torch.equal(*pair) for pair in zip(one, several, strict=True))


@pytest.mark.parametrize("streams", [1, 4])
def test_something_else_is_done_once_while_others_collect_the_same_streams(streams):
    problem = control_problem("CartPole-v1")
    begun, heard = [], []
    arguments = (problem, streams, 500, 3)
    alone, _ = collected(*arguments, workers=1, meanwhile=lambda: begun.append("alone"))
    assert begun == []
    others, _ = collected(
        *arguments, heard.append, workers=2, meanwhile=lambda: begun.append(os.getpid())
    )
    assert begun == [os.getpid()]
    assert all(torch.equal(*pair) for pair in zip(alone, others, strict=True))
    assert heard == sorted(heard)
    assert all(0 <= number <= 500 for number in heard)


@pytest.mark.parametrize("workers", [2, 3])
def test_a_truth_has_the_same_bits_for_any_number_of_processes(workers):
    # More than one group of 256 rollouts: the second draws on from where the first has stopped.
    problem = control_problem("CartPole-v1", discount=0.9)
    one, several = (
        monte_carlo_truth(problem, 140, 2, 3, 0.05, spacing=5, workers=count)
        for count in (1, workers)
    )
    assert all(torch.equal(*pair) for pair in zip(one, several, strict=True))


def test_progress_is_told_once():
    heard = []
    collect(control_problem("CartPole-v1"), 4, 20, 0, progress=heard.append, workers=2)
    assert heard == list(range(1, 21))


TABLES = [name for name, known in POLICIES.items() if hasattr(known["soft"], "table")]


@pytest.mark.parametrize("name", [*TABLES, "uniform"])
def test_answers_from_a_table_are_those_of_the_probabilities(name):
    policy = uniform(4) if name == "uniform" else POLICIES[name]["soft"]
    actions = policy.table.shape[1]
    random = np.random.default_rng(0)
    numbers = random.random((5, 30))
    observation = random.normal(size=(30, 3, 6)).astype(np.float32)
    which = np.array([4, 0, 2])
    decide = decisions(policy, numbers, actions)
    for time in range(30):
        expected = drawn(probabilities(policy, observation[time], actions), numbers[which, time])
        assert np.array_equal(decide(time, which, observation[time]), expected)


def test_a_policy_of_ones_own_acts_as_the_table_that_it_equals():
    table = control_problem("Acrobot-v1", behaviour="soft")
    own = table._replace(
        target=lambda observation: table.target(observation),
        behaviour=lambda observation: table.behaviour(observation),
    )
    one, other = (record(problem, 2, 300, 1, "test") for problem in (table, own))
    assert all(torch.equal(*pair) for pair in zip(one.transition, other.transition, strict=True))
    assert np.array_equal(one.actions, other.actions)
    assert np.array_equal(one.reset_seeds, other.reset_seeds)
