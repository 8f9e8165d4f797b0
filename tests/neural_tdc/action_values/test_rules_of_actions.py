"""Values of actions: every row of the tables against autograd, with a head for each action."""

import pytest
import torch

from neural_tdc.action_values.rows import (
    ActionHeads,
    ActionRows,
    action_transitions,
    ratio_on_arrival,
)
from neural_tdc.networks.bodies import mlp
from neural_tdc.networks.feature_map import feature_map, given_features
from neural_tdc.rules.registry import BODY_ROWS, HEAD_ROWS, RULES
from neural_tdc.types import Parameters, Transition, mapped

STATE, FEATURE, HIDDEN, ACTION, PSI = 3, 4, 6, 5, 7
COUNT = 13
F64 = torch.float64
DECAYS = [0.0, 0.6, 1.0]
ROWS = ActionRows((STATE,), ACTION)
AUXILIARIES = ("tdc", "tdrc")


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def network(seed=0):
    """Make φ, the features of rows, and parameters of A heads in float64, none of them 0."""
    torch.manual_seed(seed)
    module = mlp((STATE,), FEATURE, (HIDDEN,)).double()
    heads = ActionHeads(module, (STATE,), ACTION)
    body = {name: 2 * p.detach() for name, p in heads.named_parameters()}
    blocks = ACTION * FEATURE
    auxiliary = {name: draw(blocks, seed=seed + i) for i, name in enumerate(AUXILIARIES, 2)}
    auxiliary["generalized"] = draw(PSI, seed=seed + 9)
    return module, feature_map(heads), Parameters(body, draw(blocks, seed=seed + 1), auxiliary)


class Taken:
    """Three segments of 6, 3 and 4 transitions with their actions, with ends and cuts inside.

    The evaluated policy never takes action 2, which the behaviour takes in row 4.
    """

    def __init__(self, seed=0):
        source = torch.Generator().manual_seed(seed)
        observation = draw(COUNT, STATE, seed=seed)
        following = torch.cat([observation[1:], draw(1, STATE, seed=seed + 1)])
        discount = torch.full((COUNT,), 0.9, dtype=F64)
        first = torch.zeros(COUNT, dtype=F64)
        first[[0, 3, 6, 8, 9, 10]] = 1
        discount[[2, 9]] = 0
        for cut in (2, 5, 7, 8, 9):
            following[cut] = draw(STATE, seed=seed + cut)
        self.action = torch.randint(ACTION, (COUNT,), generator=source)
        self.action[4] = 2
        scores = draw(COUNT, ACTION, seed=seed + 30)
        scores[:, 2] = -torch.inf
        self.next_probability = scores.softmax(1)
        ratio = 2 * torch.rand(COUNT, generator=source, dtype=F64)
        ratio[self.action == 2] = 0
        self.seen = Transition(
            observation, draw(COUNT, seed=seed + 20), discount, following, ratio, first
        )

    @property
    def batch(self):
        """Return what a rule learns from."""
        rows = action_transitions(ROWS, self.seen, self.action, self.next_probability)
        return ratio_on_arrival(rows)


def phi(module, body, observation):
    inner = {name.removeprefix("body."): tensor for name, tensor in body.items()}
    return torch.func.functional_call(module, inner, (observation,))


def td_errors(module, taken, body, head):
    """Return δ = r + γΣ_aπ(a|s')θ_aᵀφ' − θ_aᵀφ, written with one head an action."""
    heads, (observation, reward, discount, following, *_) = head.view(ACTION, FEATURE), taken.seen
    value = (heads[taken.action] * phi(module, body, observation)).sum(1)
    expected = (taken.next_probability * (phi(module, body, following) @ heads.T)).sum(1)
    return reward + discount * expected - value


def inner_products(module, taken, body, omega):
    """Return u = ω_aᵀφ."""
    return (omega.view(ACTION, FEATURE)[taken.action] * phi(module, body, taken.seen[0])).sum(1)


def lambda_errors(errors, taken, decay):
    """Return δ^λ_k = δ_k + γ_kλρ_{k+1}δ^λ_{k+1}, by a loop; nothing comes over a start."""
    _, _, discount, _, ratio, first = taken.seen
    found = [None] * COUNT
    later = torch.zeros((), dtype=F64)
    for k in reversed(range(COUNT)):
        if k + 1 == COUNT or first[k + 1] == 1:
            found[k] = errors[k]
        else:
            found[k] = errors[k] + discount[k] * decay * ratio[k + 1] * later
        later = found[k]
    return torch.stack(found)


def carried_weights(u, taken, decay):
    """Return m_k = u_k + γ_{k−1}λρ_k m_{k−1}, by a loop."""
    _, _, discount, _, ratio, first = taken.seen
    found = []
    for k in range(COUNT):
        carried = 0.0
        if k and first[k] == 0:
            carried = discount[k - 1] * decay * ratio[k] * found[k - 1]
        found.append(u[k] + carried)
    return torch.stack(found)


def flat(body):
    return torch.cat([body[name].flatten() for name in sorted(body)])


def close(left, right):
    assert float((left - right).norm()) <= 1e-10 * float(right.norm()), (left, right)


def directions(name, taken, features, parameters, decay, state=None, **settings):
    rule = RULES[name].with_action_values().with_settings(**settings).with_lambda_returns(decay)
    given = () if state is None else (state,)
    return rule.directions(features, parameters, taken.batch, *given)


@pytest.mark.parametrize("decay", DECAYS)
def test_the_two_scalars_are_a_sum_and_its_derivative(decay):
    taken = Taken()
    errors, u = draw(COUNT, seed=1), draw(COUNT, seed=2)
    total = torch.func.grad(lambda e: (lambda_errors(e, taken, decay) * u).sum())
    close(carried_weights(u, taken, decay), total(errors))


@pytest.mark.parametrize("decay", DECAYS)
def test_algorithm_1_in_gtd2_form_is_the_gradient_of_the_saddle_form(decay):
    module, features, parameters = network()
    taken = Taken()

    def saddle(body, head, omega):
        errors = lambda_errors(td_errors(module, taken, body, head), taken, decay)
        u = inner_products(module, taken, body, omega)
        return (errors * u - 0.5 * u.square()).mean()

    arguments = (parameters.body, parameters.head, parameters.auxiliary["tdc"])
    body, head, ascent = torch.func.grad(saddle, argnums=(0, 1, 2))(*arguments)
    found = directions("gtd2", taken, features, parameters, decay)
    close(flat(found.body), flat(body))
    close(found.head, head)
    close(found.auxiliary["tdc"], -ascent)


@pytest.mark.parametrize("psi", ["random", "fourier"])
@pytest.mark.parametrize("decay", DECAYS)
def test_the_generalized_rule_is_the_gradient_of_its_saddle_form(decay, psi):
    module, features, parameters = network()
    taken = Taken()
    rule = RULES["generalized"].with_settings(psi=psi, psi_width=PSI)
    source = torch.Generator().manual_seed(5)
    _, state = rule.init(parameters, taken.batch.observation, source)
    drawn = state.auxiliary["generalized"]
    one_hot = torch.nn.functional.one_hot(taken.action, ACTION).double()
    inputs = torch.cat([taken.seen.observation, one_hot], 1) @ drawn["weight"] + drawn["shift"]
    basis = inputs.cos() if psi == "fourier" else inputs.tanh()

    def saddle(body, head, omega):
        errors = lambda_errors(td_errors(module, taken, body, head), taken, decay)
        u = basis @ omega
        return (errors * u - 0.5 * u.square()).mean()

    arguments = (parameters.body, parameters.head, parameters.auxiliary["generalized"])
    body, head, ascent = torch.func.grad(saddle, argnums=(0, 1, 2))(*arguments)
    settings = {"psi": psi, "psi_width": PSI}
    found = directions("generalized", taken, features, parameters, decay, state, **settings)
    close(flat(found.body), flat(body))
    close(found.head, head)
    close(found.auxiliary["generalized"], -ascent)


@pytest.mark.parametrize("decay", DECAYS)
def test_the_residual_rule_descends_the_squared_error(decay):
    module, features, parameters = network()
    taken = Taken()

    def objective(body, head):
        errors = lambda_errors(td_errors(module, taken, body, head), taken, decay)
        return 0.5 * errors.square().mean()

    body, head = torch.func.grad(objective, argnums=(0, 1))(*parameters[:2])
    found = directions("residual", taken, features, parameters, decay)
    close(flat(found.body), flat(body))
    close(found.head, head)


@pytest.mark.parametrize("decay", DECAYS)
def test_td_follows_the_errors_of_lambda_with_the_targets_held_still(decay):
    module, features, parameters = network()
    taken = Taken()
    fixed = lambda_errors(td_errors(module, taken, *parameters[:2]), taken, decay)

    def objective(body, head):
        return -(fixed * inner_products(module, taken, body, head)).mean()

    body, head = torch.func.grad(objective, argnums=(0, 1))(*parameters[:2])
    found = directions("td", taken, features, parameters, decay)
    close(flat(found.body), flat(body))
    close(found.head, head)


@pytest.mark.parametrize("name", ["tdc", "tdrc"])
@pytest.mark.parametrize("decay", DECAYS)
def test_the_corrected_rows_replace_what_is_0_at_omega_star(decay, name):
    module, features, parameters = network()
    taken = Taken()
    omega = parameters.auxiliary[name]
    u = inner_products(module, taken, parameters.body, omega)
    m = carried_weights(u, taken, decay)
    errors = lambda_errors(td_errors(module, taken, *parameters[:2]), taken, decay)

    def pulled(body, head):
        observation, _, discount, following, *_ = taken.seen
        heads = head.view(ACTION, FEATURE)
        here = (heads[taken.action] * phi(module, body, observation)).sum(1)
        there = (taken.next_probability * (phi(module, body, following) @ heads.T)).sum(1)
        # At λ = 0, where m = u: −δθ into φ and γuθ into φ'.
        return (-(errors + m - u) * here + discount * m * there).mean()

    body, head = torch.func.grad(pulled, argnums=(0, 1))(*parameters[:2])
    found = directions(f"corrected+{name}", taken, features, parameters, decay)
    close(flat(found.body), flat(body))
    close(found.head, head)
    along = torch.func.grad(
        lambda w: inner_products(module, taken, parameters.body, w) @ (errors - u)
    )
    shrinkage = {"tdc": 0.0, "tdrc": 1.0}[name]
    close(found.auxiliary[name], shrinkage * omega - along(omega) / COUNT)


def test_lstd_solves_for_the_heads_of_all_actions():
    module, features, parameters = network()
    taken = Taken()
    rule = RULES["frozen+lstd"].with_settings(lstd_window=1, lstd_epsilon=0.2)
    parameters = parameters._replace(auxiliary={})
    _, state = rule.init(parameters, taken.batch.observation, torch.Generator())
    state = rule.update(features, parameters, taken.batch, state)
    found = rule.directions(features, parameters, taken.batch, state)
    solved = parameters.head - found.head

    def projected(head):
        errors = td_errors(module, taken, parameters.body, head)
        along = torch.func.grad(
            lambda w: (inner_products(module, taken, parameters.body, w) * errors).mean()
        )
        return along(torch.zeros_like(head)) - 0.2 * head

    assert float(projected(solved).norm()) < 1e-10 * float(projected(0 * solved).norm())


NONLINEAR = ["nonlinear-tdc", "nonlinear-gtd2"]


@pytest.mark.parametrize("name", NONLINEAR)
def test_the_nonlinear_rules_project_on_the_tangent_space_of_q(name):
    module, features, parameters = network()
    taken = Taken()
    rule = RULES[name].with_action_values()
    w = ({k: draw(*v.shape, seed=3) for k, v in parameters.body.items()}, draw(20, seed=4))
    started, _ = rule.init(parameters, taken.batch.observation, torch.Generator())
    started = started._replace(auxiliary={"body": w[0], "head": w[1]})
    u = parameters[:2]

    def value(u):
        return inner_products(module, taken, *u)

    def slope(u):
        return torch.func.jvp(value, (u,), (w,))[1]

    errors, along = td_errors(module, taken, *u), slope(u)

    def rising(u):
        # The gradient of this is g-weighted, with the Hessian's product q.
        later = td_errors(module, taken, *u) - taken.seen.reward + value(u)
        onto_here = errors if name == "nonlinear-tdc" else along
        return (onto_here * value(u) - along * later - (errors - along) * slope(u)).mean()

    expected = torch.func.grad(rising)(u)
    found = rule.directions(features, started, taken.batch)
    close(flat(found.body), -flat(expected[0]))
    close(found.head, -expected[1])


@pytest.mark.parametrize("name", ["vtrace", "htd"])
def test_a_rule_that_is_td_without_ratios_is_refused(name):
    with pytest.raises(ValueError, match=rf"^rule '{name}' is TD for values of actions"):
        RULES[name].with_action_values()


def test_every_row_of_the_tables_is_defined_or_refused():
    defined = set()
    for body in BODY_ROWS:
        for head in HEAD_ROWS:
            try:
                RULES[f"{body}+{head}"].with_action_values()
            except ValueError:
                continue
            defined.add(head)
    assert set(HEAD_ROWS) - defined == {"vtrace", "htd"}


NO_ROW = ("vtrace", "htd", "etd", "generalized")
PAIRS = [f"{b}+{h}" for b in BODY_ROWS for h in HEAD_ROWS if not {b, h} & set(NO_ROW)]


@pytest.mark.parametrize("name", PAIRS)
def test_with_one_action_q_learns_what_v_learns_to_the_bit(name):
    # Not the generalized rule: its ψ is a function of the row, which has the action's weight too.
    module = mlp((STATE,), FEATURE, (HIDDEN,)).double()
    seen = Taken().seen._replace(ratio=torch.ones(COUNT, dtype=F64))
    rows = ActionRows((STATE,), 1)
    none, certain = torch.zeros(COUNT, dtype=torch.int64), torch.ones(COUNT, 1, dtype=F64)
    batch = ratio_on_arrival(action_transitions(rows, seen, none, certain))
    body = {name: p.detach() for name, p in module.named_parameters()}
    of_rows = feature_map(ActionHeads(module, (STATE,), 1))
    of_states = Parameters(body, draw(FEATURE), {each: draw(FEATURE) for each in AUXILIARIES})
    of_actions = of_states._replace(body={f"body.{key}": body[key] for key in body})
    for decay in (0.0, 0.6):
        rule = RULES[name].with_lambda_returns(decay)
        _, state = rule.init(of_states, seen.observation, torch.Generator())
        found = []
        cases = ((feature_map(module), of_states, seen), (of_rows, of_actions, batch))
        for features, parameters, learned in cases:
            after = rule.update(features, parameters, learned, state)
            found.append(rule.directions(features, parameters, learned, after))
        v, q = found
        assert torch.equal(q.head, v.head)
        assert all(torch.equal(q.body[f"body.{key}"], v.body[key]) for key in body)
        assert all(torch.equal(q.auxiliary[key], v.auxiliary[key]) for key in v.auxiliary)


def test_segments_of_one_and_lambda_zero_are_the_table_to_the_bit():
    _, features, parameters = network()
    taken = Taken()
    alone = taken.batch._replace(first=torch.ones(COUNT, dtype=F64))
    for name in ("tdc", "gtd2", "tdrc", "td", "residual"):
        table = RULES[name].directions(features, parameters, taken.batch)
        segmented = RULES[name].with_lambda_returns(0.7).directions(features, parameters, alone)
        assert torch.equal(table.head, segmented.head)
        assert all(torch.equal(table.body[key], segmented.body[key]) for key in table.body)


@pytest.mark.parametrize("head", ["td", "gtd2"])
def test_traces_on_given_features_are_the_forward_view(head):
    taken = Taken()
    rows = ActionRows((STATE,), ACTION, given=True)
    made = action_transitions(rows, taken.seen, taken.action, taken.next_probability)
    batch = ratio_on_arrival(made)
    blocks = ACTION * STATE
    parameters = Parameters({}, draw(blocks, seed=1), {"tdc": draw(blocks, seed=2)})
    forward = RULES[f"frozen+{head}"].with_lambda_returns(0.7)
    found = forward.directions(given_features, parameters, batch)
    rule = RULES[f"frozen+{head}"].with_settings(trace_decay=0.7)
    _, state = rule.init(parameters, batch.observation, torch.Generator())
    total = 0
    for k in range(COUNT):
        single = mapped(batch, lambda leaf, k=k: leaf[k : k + 1])
        state = rule.update(given_features, parameters, single, state)
        total = total + rule.directions(given_features, parameters, single, state).head
    close(COUNT * found.head, total)


def test_emphasis_follows_pairs_by_the_ratio_of_the_action_that_is_reached():
    taken = Taken()
    batch, rule = taken.batch, RULES["frozen+etd"].with_action_values()
    parameters = Parameters({}, draw(STATE + ACTION), {})
    _, state = rule.init(parameters, batch.observation, torch.Generator())
    emphasis, (_, _, discount, _, ratio, first) = 0.0, taken.seen
    for k in range(COUNT):
        single = mapped(batch, lambda leaf, k=k: leaf[k : k + 1])
        state = rule.update(given_features, parameters, single, state)
        # F_k = 1 + γ_{k−1}ρ_kF_{k−1}: the ratio of the action of the pair that is reached.
        emphasis = 1 + (0.0 if first[k] else discount[k - 1] * ratio[k] * emphasis)
        assert float(state.weight["emphasis"]) == pytest.approx(float(emphasis), abs=1e-13)


@pytest.mark.parametrize(("action", "last"), [(-1, 4), (5, 4)])
def test_an_action_that_there_is_not_is_refused(action, last):
    with pytest.raises(ValueError, match=f"^actions are numbered from 0 to {last}$"):
        ROWS.weights(torch.tensor([0, action]), torch.zeros(2))
