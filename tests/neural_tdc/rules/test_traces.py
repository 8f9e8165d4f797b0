"""Eligibility traces against returns, and against updates worked out by hand."""

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from neural_tdc.evaluation import evaluate
from neural_tdc.rules.registry import RULES
from neural_tdc.rules.traces import EligibilityTraces, moved_traces
from neural_tdc.types import Parameters, Transition, mapped
from tests.neural_tdc.rules.given_features import FEATURE, HEADS, begun, given, rule


def episode(length, off_policy, discount=0.9, terminated=True, seed=0):
    """Draw an episode of features, [time, …] each; its next observations are the following ones."""
    g = torch.Generator().manual_seed(seed)
    observation = torch.randn(length + 1, FEATURE, generator=g, dtype=torch.float64)
    discounts = torch.full((length,), discount, dtype=torch.float64)
    discounts[-1] *= not terminated
    first = torch.zeros_like(discounts)
    first[0] = 1
    ratio = torch.ones_like(discounts)
    if off_policy:
        ratio = 0.3 + 1.5 * torch.rand(length, generator=g, dtype=torch.float64)
    reward = torch.randn(length, generator=g, dtype=torch.float64)
    return Transition(observation[:-1], reward, discounts, observation[1:], ratio, first)


def in_order(transitions):
    """Return the transitions one after the other, as batches of 1."""
    return [
        mapped(transitions, lambda leaf, t=t: leaf[t : t + 1])
        for t in range(len(transitions.reward))
    ]


def summed(chosen, parameters, state, transitions):
    """Return the sum of what is added to θ over a stream, θ held still."""
    total = torch.zeros_like(parameters.head)
    for batch in in_order(transitions):
        state = chosen.update(given, parameters, batch, state)
        total -= chosen.directions(given, parameters, batch, state).head
    return total


def lambda_returns(transitions, head, decay):
    """Return G_t by its recursion from the episode's end, where it ends in r + γθᵀφ'."""
    value = (transitions.observation @ head).tolist()
    following = (transitions.next_observation @ head).tolist()
    returns, later = [], None
    for t in reversed(range(len(value))):
        beyond = following[t] if later is None else (1 - decay) * following[t] + decay * later
        ratio = float(transitions.ratio[t])
        outcome = float(transitions.reward[t]) + float(transitions.discount[t]) * beyond
        later = ratio * outcome + (1 - ratio) * value[t]
        returns.insert(0, later)
    return torch.tensor(returns, dtype=torch.float64)


def relative_error(left, right):
    return float((left - right).norm() / right.norm())


# Forward and backward view


def test_with_lambda_one_the_updates_of_an_episode_are_those_of_monte_carlo():
    transitions = episode(length=7, off_policy=False)
    chosen = rule("td", 1.0)
    parameters, state = begun(chosen)
    expected, discounted = 0, 0
    for t in reversed(range(7)):
        discounted = transitions.reward[t] + 0.9 * discounted
        feature = transitions.observation[t]
        expected += (discounted - feature @ parameters.head) * feature
    assert relative_error(summed(chosen, parameters, state, transitions), expected) < 1e-13


def test_the_trace_of_two_transitions_by_hand():
    # z₀ = 2·(1, 3) and z₁ = ½(0.8·0.5·z₀ + (4, 5)) = (2.4, 3.7); y₁ = 0.4·(1, 3) + (4, 5).
    head = torch.zeros(2, dtype=torch.float64)
    view = EligibilityTraces(0.5, behaviour=True)
    memory = view.init(Parameters({}, head, {}), head, torch.Generator())
    for feature, ratio, discount, first in (([1.0, 3.0], 2.0, 0.8, 1.0), ([4.0, 5.0], 0.5, 0.7, 0)):
        row = torch.tensor([feature], dtype=torch.float64)
        scalars = (torch.tensor([x], dtype=torch.float64) for x in (0.0, discount, ratio, first))
        reward, discount, ratio, first = scalars
        batch = Transition(row, reward, discount, row, ratio, first)
        memory = moved_traces(memory, row, batch, 0.5)
    assert memory["eligibility"].flatten().tolist() == pytest.approx([2.4, 3.7], abs=1e-15)
    assert memory["behaviour"].flatten().tolist() == pytest.approx([4.4, 6.2], abs=1e-15)
    assert memory["carry"].tolist() == pytest.approx([0.35], abs=1e-15)


@pytest.mark.parametrize("terminated", [True, False], ids=["terminated", "cut"])
@pytest.mark.parametrize("off_policy", [False, True], ids=["on-policy", "off-policy"])
@pytest.mark.parametrize("decay", [0.0, 0.4, 1.0])
def test_the_backward_view_of_an_episode_equals_the_forward_view(decay, off_policy, terminated):
    transitions = episode(8, off_policy, terminated=terminated, seed=1)
    chosen = rule("td", decay)
    parameters, state = begun(chosen)
    error = lambda_returns(transitions, parameters.head, decay)
    error -= transitions.observation @ parameters.head
    expected = error @ transitions.observation
    assert relative_error(summed(chosen, parameters, state, transitions), expected) < 1e-13


@pytest.mark.parametrize("terminated", [True, False], ids=["terminated", "cut"])
def test_the_trace_does_not_cross_into_the_next_episode(terminated):
    chosen = rule("td", 0.9)
    parameters, state = begun(chosen)
    episodes = [episode(n, True, terminated=terminated, seed=n) for n in (4, 6)]
    together = Transition(*(torch.cat(leaves) for leaves in zip(*episodes)))
    apart = sum(summed(chosen, parameters, state, part) for part in episodes)
    assert relative_error(summed(chosen, parameters, state, together), apart) < 1e-13
    # Without the mark the trace runs on across a cut; a termination needs none.
    unmarked = summed(chosen, parameters, state, together._replace(first=None))
    assert (relative_error(unmarked, apart) < 1e-13) == terminated


# λ = 0


def by_hand():
    """Return two transitions of one episode in two given features.

    With θ = (1, −2) and ω = (3, 1):

    φ₀ = (0, 1), V = −2, δ₀ = 4 + 0.5·1 + 2 = 6.5, ρ₀ = 2
    φ₁ = (2, ½), V = 1, V' = −1, δ₁ = −1 − 0.8 − 1 = −2.8, ρ₁ = ½, u = φ₁ᵀω = 6.5
    φ₁ − γ₁φ' = (1.2, −0.3)
    """
    features = torch.tensor([[0.0, 1.0], [2.0, 0.5], [1.0, 1.0]]).double()
    reward, discount, ratio, first = torch.tensor(
        [[4.0, -1.0], [0.5, 0.8], [2.0, 0.5], [1.0, 0.0]], dtype=torch.float64
    )
    return Transition(features[:2], reward, discount, features[1:], ratio, first)


# {λ: {head: what the second transition adds to θ, and to its auxiliary vector}}
ADDED = {
    # z = ½(2, ½) = (1, 0.25), zᵀω = 3.25, δz = (−2.8, −0.7)
    0.0: {
        "td": ([-2.8, -0.7], None),
        # δz − 0.8·3.25·(1, 1);  δz − 6.5·(2, ½)
        "tdc": ([-5.4, -3.3], [-15.8, -3.95]),
        # 3.25·(1.2, −0.3)
        "gtd2": ([3.9, -0.975], [-15.8, -3.95]),
        # ω as TDC's, less κω
        "tdrc": ([-5.4, -3.3], [-18.8, -4.95]),
        # y = φ₁, (z − y)ᵀω = −3.25, yᵀω = 6.5
        "htd": ([-6.7, 0.275], [-10.6, 1.25]),
    },
    # z = ½(½·½·(0, 2) + (2, ½)) = (1, 0.5), zᵀω = 3.5, δz = (−2.8, −1.4)
    0.5: {
        "td": ([-2.8, -1.4], None),
        # δz − 0.8·½·3.5·(1, 1);  δz − 6.5·(2, ½)
        "tdc": ([-4.2, -2.8], [-15.8, -4.65]),
        "gtd2": ([4.2, -1.05], [-15.8, -4.65]),
        "tdrc": ([-4.2, -2.8], [-18.8, -5.65]),
        # y = ¼(0, 1) + (2, ½) = (2, 0.75), (z − y)ᵀω = −3.25, yᵀω = 6.75
        "htd": ([-6.7, -0.425], [-10.9, 0.625]),
    },
}


def second_directions(chosen):
    """Return what is subtracted after the two transitions by hand, at θ = (1, −2), ω = (3, 1)."""
    head, omega = torch.tensor([[1.0, -2.0], [3.0, 1.0]]).double()
    parameters, state = chosen.init(
        Parameters({}, head, {}), by_hand().observation, torch.Generator()
    )
    parameters = parameters._replace(auxiliary=dict.fromkeys(chosen.auxiliaries, omega))
    for batch in in_order(by_hand()):
        state = chosen.update(given, parameters, batch, state)
    return chosen.directions(given, parameters, batch, state), state


@pytest.mark.parametrize("decay", ADDED)
@pytest.mark.parametrize("head", HEADS)
def test_what_two_transitions_add_by_hand(head, decay):
    directions, state = second_directions(rule(head, decay))
    to_head, to_auxiliary = ADDED[decay][head]
    assert (-directions.head).tolist() == pytest.approx(to_head, abs=1e-14)
    if to_auxiliary is None:
        assert directions.auxiliary == {}
    else:
        (direction,) = directions.auxiliary.values()
        assert (-direction).tolist() == pytest.approx(to_auxiliary, abs=1e-14)
    assert bool(tree_leaves(state)) == (decay > 0)


@pytest.mark.parametrize("decay", ADDED)
@pytest.mark.parametrize("head", HEADS)
def test_a_ridge_and_epsilon_add_their_gradients_with_a_trace_and_without(head, decay):
    # ½·0.2·‖θ‖² on the head; −0.1·ω for vectors that estimate C⁻¹E[δz], and +0.1·ω for TDC's head.
    plain, _ = second_directions(rule(head, decay))
    settings = {"ridge": 0.2, "epsilon": 0.1}
    chosen = rule(head, decay)
    taken = {name: settings[name] for name in settings if name in chosen.settings}
    assert ("epsilon" in taken) == (head in ("tdc", "gtd2", "tdrc"))
    changed, _ = second_directions(chosen.with_settings(**taken))
    more = {"tdc": [0.2 + 0.3, -0.4 + 0.1]}.get(head, [0.2, -0.4])
    assert (changed.head - plain.head).tolist() == pytest.approx(more, abs=1e-14)
    for name, direction in changed.auxiliary.items():
        more = [0.3, 0.1] if "epsilon" in taken else [0.0, 0.0]
        difference = direction - plain.auxiliary[name]
        assert difference.tolist() == pytest.approx(more, abs=1e-14)


@pytest.mark.parametrize(
    ("decay", "matrix", "vector"),
    [
        # ½[(0, 2)(−1, 0.75)ᵀ + z(1.2, −0.3)ᵀ] and ½[4·(0, 2) − z]
        (0.0, [[0.6, -0.15], [-0.85, 0.7125]], [-0.5, 3.875]),
        (0.5, [[0.6, -0.15], [-0.7, 0.675]], [-0.5, 3.75]),
    ],
)
def test_least_squares_of_two_transitions_by_hand(decay, matrix, vector):
    directions, state = second_directions(rule("lstd", decay, lstd_epsilon=0.0))
    matrix, vector = (torch.tensor(each, dtype=torch.float64) for each in (matrix, vector))
    assert torch.allclose(state.head["matrix"], matrix, rtol=0, atol=1e-15)
    assert torch.allclose(state.head["vector"], vector, rtol=0, atol=1e-15)
    solution = torch.linalg.solve(matrix, vector)
    to = torch.tensor([1.0, -2.0]).double() - directions.head
    assert to.tolist() == pytest.approx(solution.tolist(), abs=1e-12)


def test_evaluate_without_a_trace_decay_is_evaluate_with_zero():
    transitions = mapped(episode(60, off_policy=True, discount=0.8), Tensor.float)
    options = {"rule": "tdc", "body": None, "steps": 40, "head_step": 0.1, "runs": 2}
    heads = [
        evaluate(transitions, **options, **more).parameters.head
        for more in ({}, {"trace_decay": 0.0}, {"trace_decay": 0.5})
    ]
    assert torch.equal(heads[0], heads[1])
    assert not torch.allclose(heads[0], heads[2])


def test_on_policy_htd_is_td():
    transitions = episode(9, off_policy=False)
    parameters, state = begun(rule("htd", 0.7))
    td_state = begun(rule("td", 0.7))[1]
    by_htd = summed(rule("htd", 0.7), parameters, state, transitions)
    by_td = summed(rule("td", 0.7), parameters, td_state, transitions)
    assert relative_error(by_htd, by_td) < 1e-14


# Refusals


@pytest.mark.parametrize("decay", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_trace_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"^trace_decay \S+ is not allowed: .* from 0 to 1$"):
        rule("td", decay)


@pytest.mark.parametrize("name", ["vtrace", "etd", "residual", "generalized"])
def test_heads_without_a_trace_of_this_kind_are_refused(name):
    with pytest.raises(ValueError, match=f"^trace_decay 0.8 is not defined for the head '{name}'"):
        RULES[name].with_settings(trace_decay=0.8)


@pytest.mark.parametrize("name", ["ttn", "nonlinear-tdc", "nonlinear-gtd2"])
def test_rules_whose_features_learn_are_refused(name):
    with pytest.raises(ValueError, match=rf"^rule '{name}' [^\n]*trace_decay[^\n]*$"):
        RULES[name].with_settings(trace_decay=0.8)
    assert RULES["ttn"].with_settings(trace_decay=0.0) == RULES["ttn"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs given features or a frozen body, not the body 'semi_gradient'"),
        ({"body": None, "batch": 2}, "with trace_decay 0.8 needs an ordered stream and batch 1"),
        ({"body": None, "sampling": "iid"}, "with trace_decay 0.8 needs an ordered stream"),
        ({"body": None, "sampling": "replay"}, "with trace_decay 0.8 needs an ordered stream"),
    ],
)
def test_what_a_trace_cannot_follow_is_refused(options, message):
    transitions = mapped(episode(30, off_policy=False), Tensor.float)
    with pytest.raises(ValueError, match=r"^rule 'td'[^\n]*$") as refusal:
        evaluate(transitions, rule="td", steps=5, trace_decay=0.8, **options)
    assert message in str(refusal.value)


def test_a_batch_of_several_is_refused():
    chosen = rule("td", 0.5)
    parameters, state = begun(chosen)
    with pytest.raises(ValueError, match="batch 1, not batch 4"):
        chosen.update(given, parameters, episode(4, off_policy=False), state)


def test_a_rule_wants_an_ordered_stream_only_with_a_trace():
    assert [rule("tdc", decay).ordered for decay in (0.0, 0.1)] == [False, True]


def test_a_trace_estimates_another_auxiliary_vector_which_no_evaluator_measures():
    parameters, _ = begun(rule("tdc", 0.5))
    assert rule("tdc", 0.5).omega(parameters) is None
    assert rule("tdc", 0.0).omega(parameters) is not None
