"""Runs that cannot fit into memory are refused before anything is made."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from envs.control.problems import control_problem
from envs.finite.standard_problems import boyan
from experiments.evaluate_policy.parts import memory
from experiments.evaluate_policy.parts.memory import Need, body_size, check_needs, needs
from experiments.runs.command_line.checks import UsageError
from neural_tdc.learning.sampling import MarkovSampling
from neural_tdc.networks.bodies import mlp

CPU = torch.device("cpu")
SETTINGS = SimpleNamespace(
    runs=3,
    width=None,
    batch=2,
    steps=10,
    truth_states=7,
    truth_rollouts=4,
    held_out=9,
    resample="none",
)


def test_a_body_is_counted_without_being_made():
    before = torch.random.get_rng_state()
    # 3·7 + 7 weights and biases, then 7·5 + 5.
    assert body_size(partial(mlp, features=5, hidden=(7,)), (3,)) == (68, 5)
    # Far more than any machine holds.
    assert body_size(partial(mlp, features=10**9, hidden=(10**6,)), (3,))[0] > 10**15
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_body_that_needs_numbers_is_left_to_its_trial():
    def looking(shape):
        linear = nn.Linear(*shape, 2)
        assert float(linear.weight.sum()) != 0
        return linear

    assert body_size(looking, (3,)) == (0, 0)


def test_the_parts_of_a_run_on_a_chain_by_hand():
    body = partial(mlp, features=5, hidden=(7,))
    found = needs(SETTINGS, boyan(), body, MarkovSampling(2), 10, torch.float32)
    # 12 states are one-hot observations: 12·7 + 7 + 7·5 + 5 = 131 parameters and 5 of the head.
    population = Need("--runs 3", "the population", 2 * 3 * 136 * 4, 0)
    # 20 transitions a run: two state numbers and four floats each.
    streams = Need("--runs 3 --steps 10 --batch 2", "the streams", 3 * 20 * 32, 3 * 5_000)
    assert found[0] == population
    assert found[1].device == 4 * 25 * 8
    assert found[2].device == 3 * 2 * 2 * (12 + 5) * 4
    assert found[3:] == [streams]


def test_the_parts_of_a_run_in_an_environment_by_hand():
    problem = control_problem("CartPole-v1")
    found = needs(SETTINGS, problem, None, MarkovSampling(1), 10, torch.float64)
    experience, truth, held_out = found[3:]
    # Observations of four numbers, twice, and four bytes each of eight more.
    row = 4 * (2 * 4 + 8)
    assert experience == Need(
        "--runs 3 --steps 10 --batch 2", "the experience", 0, 3 * (10 * row + 5_000)
    )
    assert truth.host == 7 * (2_000 + 8 * 4) + 7 * 50 * row + 5_000
    assert held_out.host == 9 * row + 5_000


def test_the_largest_part_is_named_where_they_do_not_fit_together(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda place: 10 * 10**9)
    found = [Need("--a 1", "these", 4 * 10**9, 10**9), Need("--b 2", "those", 0, 5 * 10**9)]
    check_needs(found, CPU)
    with pytest.raises(UsageError) as refused:
        check_needs([*found, Need("--c 3", "the rest", 1, 0)], CPU)
    assert str(refused.value) == "--a 1: these take some 5.0 GB, and cpu has 10.0 GB available"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--problem boyan --runs 1000000000", "--runs 1000000000 --steps"),
        ("--problem boyan --width 1000000", "--width 1000000: second moments of the features take"),
        ("--problem boyan --width 1000000000", "--width 1000000000: "),
        ("--problem CartPole-v1 --truth-states 1000000000", "--truth-states 1000000000 --truth-"),
        ("--problem CartPole-v1 --held-out 1000000000000", "--held-out 1000000000000: held-out"),
        ("--problem boyan --batch 1000000000", "--batch 1000000000: "),
    ],
)
def test_a_run_that_no_machine_holds_is_refused_in_one_line(evaluate, tmp_path, line, said):
    outcome = evaluate(f"{line} --rule td --out run")
    assert outcome.status == 2
    assert said in outcome.error
    assert len(outcome.error.splitlines()) == 1
    assert not (tmp_path / "run").exists()
