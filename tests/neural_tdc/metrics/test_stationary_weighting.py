"""The stationary weighting of a chain, and chains that have none."""

import pytest
import torch

from neural_tdc.metrics.markov_chain import MarkovChain
from neural_tdc.metrics.transition_matrices import reachability, stationary_weighting
from tests.neural_tdc.metrics.decision_problem import F64, STATES, shares


def test_reachability_follows_paths_of_any_length():
    states = 11
    transition = torch.zeros(states, states, dtype=F64)
    transition[range(states - 1), range(1, states)] = 1
    assert torch.equal(reachability(transition), torch.ones(states, states).triu().bool())


def test_stationary_weighting_of_a_periodic_chain_with_a_transient_state_by_hand():
    # 2 leads to 0; 0 and 1 alternate for ever.
    transition = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, 0.5]], dtype=F64)
    expected = torch.tensor([0.5, 0.5, 0.0], dtype=F64)
    torch.testing.assert_close(stationary_weighting(transition), expected)


def test_stationary_weighting_reproduces_itself():
    transition = shares(STATES, STATES, seed=15)
    weighting = stationary_weighting(transition)
    torch.testing.assert_close(weighting @ transition, weighting, atol=1e-15, rtol=0)
    assert weighting.sum() == pytest.approx(1, abs=1e-14)


def test_two_closed_sets_of_states_are_refused_unless_the_start_decides():
    transition = torch.eye(3, dtype=F64)
    transition[1] = torch.tensor([0.5, 0.0, 0.5])
    with pytest.raises(ValueError, match="around state 0 or around state 2"):
        stationary_weighting(transition)
    with pytest.raises(ValueError, match="no single stationary distribution"):
        stationary_weighting(transition, torch.tensor([0.0, 1.0, 0.0], dtype=F64))
    start = torch.tensor([0.0, 0.0, 1.0], dtype=F64)
    assert stationary_weighting(transition, start).tolist() == [0, 0, 1]


def test_a_row_that_misses_one_has_no_stationary_weighting():
    with pytest.raises(ValueError, match=r"row 1 of transition sums to 0\.9, but must sum to 1"):
        stationary_weighting(torch.tensor([[0.5, 0.5], [0.5, 0.4]], dtype=F64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transition": [[0.5, 0.6], [0, 1]]}, "row 0 of transition sums to 1.1"),
        ({"transition": [[1.1, -0.1], [0, 1]]}, "from state 0 to state 1 .* -0.1"),
        ({"transition": [[float("nan"), 0], [0, 1]]}, "transition holds .* not finite"),
        ({"transition": [[0.5, 0.5]]}, "square"),
        ({"reward": [1.0, 2.0, 3.0]}, r"reward must have shape \(2,\)"),
        ({"reward": [1.0, float("inf")]}, "reward holds"),
        ({"weighting": [0.5, 0.4]}, "weighting sums to 0.9"),
        ({"weighting": [-0.5, 1.5]}, "weighting of state 0 is negative"),
        ({"discount": 1.1}, "discount is 1.1"),
        ({"discount": -0.1}, "discount is -0.1"),
        ({"discount": float("nan")}, "discount is nan"),
        ({"discount": 1.0}, "never ends from state 0"),
    ],
)
def test_what_is_no_markov_chain_is_refused_in_one_line(changes, message):
    given = {"transition": [[0.5, 0.5], [0, 1]], "reward": [1.0, 2.0], "weighting": [0.5, 0.5]}
    tables = {
        name: torch.tensor(changes.get(name, table), dtype=F64) for name, table in given.items()
    }
    with pytest.raises(ValueError, match=message) as caught:
        MarkovChain(**tables, discount=changes.get("discount", 0.9))
    assert "\n" not in str(caught.value)


def test_a_discount_of_one_is_allowed_where_an_end_is_reached_in_the_end():
    transition = torch.tensor([[0.0, 1.0], [0.0, 0.5]])
    chain = MarkovChain(transition, torch.tensor([0.0, 1.0]), 1.0, torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(chain.value(), torch.tensor([2.0, 2.0], dtype=F64))
