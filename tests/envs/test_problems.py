"""The names of problems come from the registries, and a seeded name is made with its seed."""

import pytest
import torch

from envs.control.problems import CONTROL_PROBLEMS
from envs.finite.standard_problems import (
    FINITE_PROBLEMS,
    SEEDED_PROBLEMS,
    is_finite_problem,
    problem,
)
from envs.problems import problem_names


def test_every_registered_problem_is_listed(monkeypatch):
    monkeypatch.setitem(FINITE_PROBLEMS, "mine", FINITE_PROBLEMS["boyan"])
    listed = problem_names()
    seeded = {f"{name}-SEED" for name in ("garnet", "garnet-off-policy", "collision")}
    assert {*FINITE_PROBLEMS, *CONTROL_PROBLEMS, *seeded} == {*listed}
    assert "mine" in listed
    assert problem("mine").name == "boyan"


@pytest.mark.parametrize("family", SEEDED_PROBLEMS)
def test_a_seeded_problem_is_that_of_its_seed(family):
    assert problem(f"{family}-3").name == f"{family}-3"
    assert torch.equal(problem(f"{family}-0").reward, problem(family).reward)
    assert not torch.equal(problem(f"{family}-3").features, problem(family).features)
    with pytest.raises(ValueError, match=f"'{family}-x': did you mean {family}"):
        problem(f"{family}-x")


def test_a_name_that_only_begins_like_a_family_is_not_finite():
    assert is_finite_problem("garnet-7")
    assert not is_finite_problem("garnets")
    assert not is_finite_problem("CartPole-v1")
