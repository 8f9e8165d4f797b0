"""Eligibility traces against returns, exact expectations on a chain, and LSTD(λ)."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from envs.finite.finite_mdp import chain
from envs.finite.standard_problems import boyan, random_walk_dependent
from envs.finite.streams import exact_transitions, simulate_streams
from neural_tdc.evaluation import evaluate
from neural_tdc.learning.algorithm import Algorithm, StepSizes, initial_state, population, step
from neural_tdc.rules.composition import NO_STATE
from neural_tdc.rules.lstd import LstdHead, accumulated
from neural_tdc.rules.registry import RULES
from neural_tdc.rules.traces import EligibilityTraces, moved_traces
from neural_tdc.types import Parameters, Transition, mapped

FEATURE = 3
HEADS = ("td", "tdc", "gtd2", "tdrc", "htd")


def given(body, observation):
    return observation


def rule(head, decay, **settings):
    return RULES[f"frozen+{head}"].with_settings(trace_decay=decay, **settings)


def begun(chosen, width=FEATURE, seed=0):
    """Return random parameters and the state of a stream that has not begun."""
    g = torch.Generator().manual_seed(seed)
    head = torch.randn(width, generator=g, dtype=torch.float64)
    parameters, state = chosen.init(Parameters({}, head, {}), torch.zeros(2, width).double(), g)
    omega = torch.randn(width, generator=g, dtype=torch.float64)
    return parameters._replace(auxiliary=dict.fromkeys(chosen.auxiliaries, omega)), state


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


def in_features(mdp, transitions):
    """Put the features of states in the place of their numbers."""
    return transitions._replace(
        observation=mdp.features[transitions.observation],
        next_observation=mdp.features[transitions.next_observation],
    )


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


# Expectations on a chain


def expectation(mdp, decay):
    """Return every transition with its probability and the mean traces there, by `moved_traces`.

    The mean of what arrives at a state is carried along every transition until it stands still;
    it is affine in it, so that means are all that is needed.
    """
    batch, weights = exact_transitions(mdp)
    batch = batch._replace(first=torch.zeros_like(batch.reward))
    seen = in_features(mdp, batch)
    weighting = chain(mdp).weighting
    arriving = torch.zeros(2, *mdp.features.shape, dtype=torch.float64)

    def one(kept, kept_behaviour, transition):
        # Already multiplied by λγ_t where it was carried.
        memory = {
            "eligibility": kept[None],
            "behaviour": kept_behaviour[None],
            "carry": torch.ones(1, dtype=torch.float64),
        }
        alone = mapped(transition, lambda leaf: leaf[None])
        return moved_traces(memory, alone.observation, alone, decay)

    for _ in range(2000):
        memory = torch.vmap(one)(*arriving[:, batch.observation], seen)
        before = arriving
        arriving = torch.zeros_like(before)
        for i, name in enumerate(("eligibility", "behaviour")):
            carried = memory["carry"] * memory[name][:, 0] * weights[:, None]
            arriving[i].index_add_(0, batch.next_observation, carried)
        arriving = arriving / weighting[:, None]
        if torch.equal(arriving, before):
            break
    return seen, weights, memory


def mean_directions(chosen, parameters, expected):
    """Return the expected directions at given parameters."""
    batch, weights, memory = expected

    def one(transition, memory):
        alone = mapped(transition, lambda leaf: leaf[None])
        state = NO_STATE._replace(view=memory)
        return chosen.directions(given, parameters, alone, state)

    directions = torch.vmap(one)(batch, memory)
    (auxiliary,) = [*directions.auxiliary.values()] or [torch.zeros(len(weights), 0).double()]
    return weights @ directions.head, weights @ auxiliary


def solution(mdp, decay, behaviour=False):
    """Return A = ΦᵀD(I − γλP)⁻¹(I − γP)Φ and b = ΦᵀD(I − γλP)⁻¹r, on the target's chain."""
    if behaviour:
        mdp = mdp._replace(target=mdp.behaviour)
    model = chain(mdp)
    identity = torch.eye(len(model.reward), dtype=torch.float64)
    left = mdp.features.T @ model.weighting.diag()
    discounted = model.discount * model.transition
    left = left @ torch.linalg.inv(identity - decay * discounted)
    return left @ (identity - discounted) @ mdp.features, left @ model.reward


CHAINS = {"boyan": boyan, "random walk, off-policy": random_walk_dependent}


@pytest.mark.parametrize("decay", [0.5, 1.0])
@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS.keys())
def test_lstd_statistics_have_the_exact_matrix_as_their_expectation(make, decay):
    mdp = make()
    batch, weights, memory = expectation(mdp, decay)
    head = torch.zeros_like(mdp.features[0])
    empty = LstdHead().init(Parameters({}, head, {}), mdp.features, torch.Generator())

    def one(transition, trace):
        alone = mapped(transition, lambda leaf: leaf[None])
        difference = alone.observation - alone.discount[:, None] * alone.next_observation
        return accumulated(empty, trace, difference, alone.reward, 1)

    statistics = torch.vmap(one)(batch, memory["eligibility"])
    A, b = solution(mdp, decay)
    assert relative_error(torch.einsum("t,tij->ij", weights, statistics["matrix"]), A) < 1e-12
    assert relative_error(weights @ statistics["vector"], b) < 1e-12


def test_a_long_stream_gives_lstd_the_exact_matrix_within_three_standard_errors():
    mdp, runs, steps, decay = random_walk_dependent(), 60, 800, 0.7
    stream = simulate_streams(mdp, runs, steps, seed=3, dtype=torch.float64)
    chosen = rule("lstd", decay, lstd_window=10**9)
    parameters, fresh = begun(chosen)
    state = tree_map(lambda leaf: leaf.expand(runs, *leaf.shape), fresh)

    def one(state, batch):
        return chosen.update(given, parameters, batch, state)

    for t in range(steps):
        batch = in_features(mdp, mapped(stream, lambda leaf, t=t: leaf[:, t : t + 1]))
        state = torch.vmap(one)(state, batch)
    A, b = solution(mdp, decay)
    other = dict(zip(("matrix", "vector"), solution(mdp, 0.0)))
    for name, exact in (("matrix", A), ("vector", b)):
        seen = state.head[name]
        error = seen.std(0) / runs**0.5
        assert ((seen.mean(0) - exact).abs() < 3 * error).all()
        # The stream can tell one λ from another.
        assert ((seen.mean(0) - other[name]).abs() > 10 * error).any()


@pytest.mark.parametrize("decay", [0.3, 0.8, 1.0])
@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS.keys())
def test_expected_tdc_and_gtd2_directions_are_the_gradient_of_the_projected_error(make, decay):
    mdp = make()
    expected = expectation(mdp, decay)
    A, b = solution(mdp, decay)
    C = mdp.features.T @ chain(mdp).weighting.diag() @ mdp.features
    width = len(b)
    parameters, _ = begun(rule("tdc", decay), width)
    error = b - A @ parameters.head
    omega = torch.linalg.solve(C, error)
    names = ("tdc", "tdrc")
    best = parameters._replace(auxiliary=dict.fromkeys(names, omega))
    elsewhere = parameters._replace(auxiliary=dict.fromkeys(names, parameters.auxiliary["tdc"]))
    for head in ("tdc", "gtd2", "tdrc"):
        chosen = rule(head, decay)
        if head == "tdrc":
            chosen = chosen.with_settings(kappa=0.0)
        direction, auxiliary = mean_directions(chosen, best, expected)
        assert relative_error(direction, -A.T @ omega) < 1e-11
        assert auxiliary.abs().max() < 1e-12
        _, auxiliary = mean_directions(chosen, elsewhere, expected)
        assert relative_error(auxiliary, C @ elsewhere.auxiliary["tdc"] - error) < 1e-12


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS.keys())
def test_expected_htd_directions_replace_the_covariance_by_the_behaviours_matrix(make):
    mdp, decay = make(), 0.6
    expected = expectation(mdp, decay)
    A, b = solution(mdp, decay)
    behaved, _ = solution(mdp, decay, behaviour=True)
    chosen = rule("htd", decay)
    parameters, _ = begun(chosen, len(b))
    error, omega = b - A @ parameters.head, parameters.auxiliary["htd"]
    direction, auxiliary = mean_directions(chosen, parameters, expected)
    assert relative_error(direction, -(error + (A - behaved).T @ omega)) < 1e-12
    assert relative_error(auxiliary, behaved.T @ omega - error) < 1e-12


def test_on_policy_htd_is_td():
    transitions = episode(9, off_policy=False)
    parameters, state = begun(rule("htd", 0.7))
    td_state = begun(rule("td", 0.7))[1]
    by_htd = summed(rule("htd", 0.7), parameters, state, transitions)
    by_td = summed(rule("td", 0.7), parameters, td_state, transitions)
    assert relative_error(by_htd, by_td) < 1e-14


@pytest.mark.parametrize("head", HEADS)
def test_expected_updates_off_policy_converge_to_the_lstd_solution(head):
    mdp, decay = random_walk_dependent(), 0.7
    expected = expectation(mdp, decay)
    A, b = solution(mdp, decay)
    fixed_point = torch.linalg.solve(A, b)
    chosen = rule(head, decay)
    parameters, _ = begun(chosen)
    # The expected directions are affine: their matrix and offset from a few evaluations.
    count = FEATURE * (1 + len(parameters.auxiliary))

    def stacked(x):
        at = Parameters({}, x[:FEATURE], dict.fromkeys(chosen.auxiliaries, x[FEATURE:]))
        return torch.cat(mean_directions(chosen, at, expected))

    offset = stacked(torch.zeros(count).double())
    matrix = torch.stack([stacked(row) - offset for row in torch.eye(count).double()], 1)
    x = torch.cat([parameters.head, *parameters.auxiliary.values()])
    for _ in range(50_000):
        x = x - 0.3 * (matrix @ x + offset)
    assert relative_error(x[:FEATURE], fixed_point) < 1e-6
    assert x[FEATURE:].abs().sum() < 1e-6


def test_a_population_of_runs_follows_the_written_out_tdc_each_on_its_own_stream():
    mdp, decay, runs, steps, size = random_walk_dependent(), 0.7, 4, 60, 0.2
    stream = in_features(mdp, simulate_streams(mdp, runs, steps, seed=5, dtype=torch.float64))
    assert (stream.first.sum(1) > 1).all()
    assert (stream.ratio != 1).all()
    chosen = rule("tdc", decay)
    parameters, state = begun(chosen)
    algorithm = Algorithm(chosen, given)
    state = initial_state(algorithm, parameters, state)
    state = tree_map(lambda leaf: leaf.expand(runs, *leaf.shape), state)
    many = population(partial(step, algorithm))
    sizes = torch.full((runs,), size, dtype=torch.float64)
    for t in range(steps):
        batch = mapped(stream, lambda leaf, t=t: leaf[:, t : t + 1])
        state = many(state, batch, StepSizes(sizes, sizes, sizes))
    for run in range(runs):
        theta, omega = parameters.head, parameters.auxiliary["tdc"]
        trace, arrived = torch.zeros(FEATURE).double(), 0
        for t in range(steps):
            phi, following = stream.observation[run, t], stream.next_observation[run, t]
            discount, ratio = float(stream.discount[run, t]), float(stream.ratio[run, t])
            if stream.first[run, t]:
                arrived = 0
            trace = ratio * (arrived * decay * trace + phi)
            arrived = discount
            delta = stream.reward[run, t] + discount * (theta @ following) - theta @ phi
            correction = discount * (1 - decay) * (trace @ omega) * following
            theta, omega = (
                theta + size * (delta * trace - correction),
                omega + size * (delta * trace - (phi @ omega) * phi),
            )
        assert relative_error(state.parameters.head[run], theta) < 1e-12
        assert relative_error(state.parameters.auxiliary["tdc"][run], omega) < 1e-12


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
        ({}, "wants given features or a frozen body, not the body 'semi_gradient'"),
        ({"body": None, "batch": 2}, "with trace_decay 0.8 wants an ordered stream of batch 1"),
        ({"body": None, "sampling": "iid"}, "with trace_decay 0.8 wants an ordered stream"),
        ({"body": None, "sampling": "replay"}, "with trace_decay 0.8 wants an ordered stream"),
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
    with pytest.raises(ValueError, match="batch 1, not 4"):
        chosen.update(given, parameters, episode(4, off_policy=False), state)


def test_a_rule_wants_an_ordered_stream_only_with_a_trace():
    assert [rule("tdc", decay).ordered for decay in (0.0, 0.1)] == [False, True]


def test_a_trace_estimates_another_auxiliary_vector_which_no_judge_measures():
    parameters, _ = begun(rule("tdc", 0.5))
    assert rule("tdc", 0.5).omega(parameters) is None
    assert rule("tdc", 0.0).omega(parameters) is not None
