"""`evaluate(values="q")`: from tensors to values of actions and of states."""

import pytest
import torch

from envs.finite.finite_mdp import action_chain, chain, finite_mdp
from envs.finite.standard_problems import problem
from envs.finite.streams import simulate_actions
from neural_tdc.action_values.preparation import DRAWS, action_problem
from neural_tdc.evaluation import evaluate
from neural_tdc.learning.experience import Experience, gather
from neural_tdc.networks.bodies import mlp
from neural_tdc.randomness import keys
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Transition, mapped

F64 = torch.float64


def taken(mdp, steps, table=None, seed=0):
    """Return one stream of observations and its actions, ratios lost."""
    seen, action = simulate_actions(mdp, 1, steps, seed=seed)
    table = mdp.observation.float() if table is None else table
    stream = mapped(seen, lambda leaf: leaf[0])
    return stream._replace(
        observation=table[stream.observation],
        next_observation=table[stream.next_observation],
        ratio=torch.ones(steps),
    ), action[0]


def target_of(mdp):
    """Return the target policy as a function of one-hot observations."""
    return lambda observation: mdp.target.to(observation)[observation.argmax(1)]


def small():
    """Make a deterministic off-policy problem of three states and two actions, γ = 0.8.

    The behaviour takes action 0 in one of five steps only, the target in four of five.
    """
    transition = torch.zeros(3, 2, 3, dtype=F64)
    for state in range(3):
        transition[state, 0, (state + 1) % 3] = 1
        transition[state, 1, state] = 1
    reward = torch.arange(6, dtype=F64).view(3, 2, 1).expand(3, 2, 3)
    target, behaviour = [[0.8, 0.2]] * 3, [[0.2, 0.8]] * 3
    return finite_mdp(transition, reward, 0.8, target=target, behaviour=behaviour)


def test_q_is_learned_off_policy_without_any_ratio():
    mdp = small()
    stream, action = taken(mdp, 2000)
    found = evaluate(
        stream,
        values="q",
        action=action,
        policy=target_of(mdp),
        body=None,
        rule="td",
        sampling="iid",
        batch=64,
        steps=400,
        head_step=2.0,
        measure_every=400,
    )
    q = action_chain(mdp).value().view(3, 2).float()
    states, each = torch.eye(3).repeat_interleave(2, 0), torch.arange(6) % 2
    assert (found.value(states, action=each) - q.flatten()).abs().max() < 1e-3
    assert (found.value(torch.eye(3)) - chain(mdp).value().float()).abs().max() < 1e-3


@pytest.mark.parametrize(
    "rule", ["tdc", "gtd2", "tdrc", "semi_gradient+lstd", "generalized", "ttn"]
)
def test_rules_with_bodies_learn_q_and_the_td_error_falls(rule):
    mdp = problem("garnet-off-policy")
    stream, action = taken(mdp, 500)
    found = evaluate(
        stream,
        values="q",
        action=action,
        policy=target_of(mdp),
        rule=rule,
        steps=100,
        runs=2,
        measure_every=100,
        body=lambda shape: mlp(shape, 5, (8,)),
        sampling="replay",
        batch=16,
        head_step=0.1,
        body_step=0.02,
    )
    assert found.parameters.head.shape == (2, 4 * 5)
    assert found.rows.size == 4
    errors = found.measurements["error/rmstde"].mean(1)
    assert errors[-1] < errors[0]
    q = torch.stack(
        [found.value(mdp.observation.float(), action=torch.full((30,), a)) for a in range(4)], 1
    )
    v = found.value(mdp.observation.float())
    assert torch.allclose(v, (mdp.target.float() * q).sum(1), atol=1e-5)


def test_with_lambda_the_ratios_of_the_next_actions_count():
    mdp = small()
    stream, action = taken(mdp, 300)
    options = {"values": "q", "action": action, "policy": target_of(mdp), "rule": "td"}
    options |= {"steps": 50, "sampling": "sequences", "sequence_length": 5, "batch": 2}

    def head(ratio, decay):
        changed = stream._replace(ratio=ratio * torch.ones(300))
        return evaluate(changed, trace_decay=decay, **options).parameters.head

    assert torch.equal(head(1.0, 0.0), head(3.0, 0.0))
    assert not torch.equal(head(1.0, 0.7), head(3.0, 0.7))


def test_lstd_of_lambda_off_policy_solves_for_the_same_q():
    mdp = small()
    seen, action = simulate_actions(mdp, 1, 1000, seed=0)
    stream = mapped(seen, lambda leaf: leaf[0])
    table = torch.eye(3)
    stream = stream._replace(
        observation=table[stream.observation], next_observation=table[stream.next_observation]
    )
    q = action_chain(mdp).value().view(3, 2).float()
    found = evaluate(
        stream,
        values="q",
        action=action[0],
        policy=target_of(mdp),
        body=None,
        rule=RULES["frozen+lstd"].with_settings(lstd_window=10**6, lstd_epsilon=1e-6),
        sampling="sequences",
        sequence_length=6,
        trace_decay=0.7,
        batch=32,
        steps=30,
        measure_every=30,
    )
    # Nothing is random but the behaviour's actions, so that all errors of the true q are 0.
    states, each = torch.eye(3).repeat_interleave(2, 0), torch.arange(6) % 2
    assert (found.value(states, action=each) - q.flatten()).abs().max() < 1e-2


# --- continuous actions


def line(steps, seed=0):
    """Return a stream on a line: s' = 0.5s + a + noise, reward −s² − a², γ = 0.7, a uniform."""
    source = torch.Generator().manual_seed(seed)
    noise = 0.1 * torch.randn(steps, generator=source, dtype=F64)
    action = 2 * torch.rand(steps, generator=source, dtype=F64) - 1
    state = torch.zeros(steps + 1, dtype=F64)
    for time in range(steps):
        state[time + 1] = 0.5 * state[time] + action[time] + noise[time]
    reward = -(state[:-1].square()) - action.square()
    one = torch.ones(steps, dtype=F64)
    return Transition(state[:-1, None], reward, 0.7 * one, state[1:, None], one), action


class Leaning:
    """The policy a ~ N(−0.3s, 0.2²)."""

    def sample(self, observation, generator):
        noise = torch.randn(len(observation), 1, generator=generator).to(observation)
        return -0.3 * observation + 0.2 * noise


class Quadratic(torch.nn.Module):
    """Features of (s, a) that hold the exact q of a quadratic problem; one weight that is 1."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, row):
        s, a = row[:, 0], row[:, 1]
        return self.weight * torch.stack([s * s, s * a, a * a, torch.ones_like(s)], 1)


def exact_quadratic():
    """Return the exact q = c₁s² + c₂sa + c₃a² + c₄ of `Leaning` by iterating Bellman's equation."""
    c = torch.zeros(4, dtype=F64)
    for _ in range(400):
        # E over a' = ks' + ε of q(s', a') = As'² + B.
        k, variance = -0.3, 0.2**2
        A, B = c[0] + k * c[1] + k * k * c[2], c[2] * variance + c[3]
        # s'² = (0.5s + a)² + noise.
        c = torch.stack([-1 + 0.7 * A * 0.25, 0.7 * A, -1 + 0.7 * A, 0.7 * (A * 0.01 + B)])
    return c


def test_continuous_actions_reach_the_exact_quadratic_q():
    stream, action = line(4000)
    found = evaluate(
        stream,
        values="q",
        action=action,
        policy=Leaning(),
        body=lambda shape: Quadratic(),
        body_step=0.0,
        rule=RULES["frozen+lstd"].with_settings(lstd_window=10**6),
        sampling="iid",
        batch=256,
        steps=60,
        held_out=0.05,
        measure_every=60,
    )
    exact = exact_quadratic()
    assert (found.parameters.head[0] - exact).abs().max() < 0.1
    state = torch.tensor([[-1.0], [0.0], [2.0]], dtype=F64)
    of_zero = found.value(state, action=torch.zeros(3, dtype=F64))
    assert (of_zero - (exact[0] * state[:, 0].square() + exact[3])).abs().max() < 0.3
    k, variance = -0.3, 0.2**2
    level = exact[0] + k * exact[1] + k * k * exact[2]
    v = level * state[:, 0].square() + exact[2] * variance + exact[3]
    assert (found.value(state) - v).abs().max() < 0.3


def test_a_next_action_is_drawn_anew_at_each_use_and_alike_for_the_same_update():
    stream, action = line(20)
    streams = mapped(stream, lambda leaf: leaf[None])
    made = action_problem(streams, action[None], Leaning())
    assert made.next_action.shape == (1, 20, DRAWS, 1)
    experience = Experience(
        made.transitions, None, torch.zeros(2, dtype=torch.int64), keys(0, 2), made.next_action
    )
    index = torch.full((2, 3), 7)
    seen = [gather(experience, index, torch.tensor(k)).next_observation for k in range(60)]
    assert seen[0].shape == (2, 3, 2)
    assert torch.equal(seen[5], gather(experience, index, torch.tensor(5)).next_observation)
    drawn = {float(a) for batch in seen for a in batch[..., 1].flatten()}
    assert drawn == {float(a) for a in made.next_action[0, 7, :, 0]}
    assert all(bool((batch[..., 0] == stream.next_observation[7, 0]).all()) for batch in seen)


@pytest.mark.parametrize("kind", ["distribution", "deterministic"])
def test_a_policy_may_return_a_distribution_or_the_actions_themselves(kind):
    stream, action = line(40)

    def policy(observation):
        mean = -0.3 * observation[:, 0]
        return mean if kind == "deterministic" else torch.distributions.Normal(mean, 0.2)

    options = {"values": "q", "action": action, "policy": policy, "rule": "td", "steps": 20}
    found = evaluate(stream, **options)
    again = evaluate(stream, **options)
    assert torch.equal(found.parameters.head, again.parameters.head)
    state = torch.tensor([[0.3], [0.7]], dtype=F64)
    if kind == "deterministic":
        expected = found.value(state, action=-0.3 * state[:, 0])
        assert torch.allclose(found.value(state), expected)


# --- what cannot be


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"policy": None}, "values 'q' needs policy"),
        ({"action": None, "policy": None}, "values 'q' needs action and policy"),
        ({"values": "v"}, "action and policy have no effect with values 'v'"),
        ({"values": "a"}, "values 'a' is not one of v, q"),
        ({"action": torch.zeros(3, dtype=torch.int64)}, r"action has shape \(1, 3\); it must be"),
        ({"action": torch.full((40,), 2)}, "actions are numbered from 0 to 1"),
        ({"policy": lambda s: s}, "policy returned probabilities that are negative or do not sum"),
        ({"policy": lambda s: s[:1]}, r"policy returned \[1, 3\]; it must return probabilities"),
        ({"policy": lambda s: 1 / 0}, r"policy failed on observations of shape \[40, 3\]: div"),
        ({"rule": "vtrace"}, "rule 'vtrace' is TD for values of actions"),
        (
            {"action": torch.zeros(40), "body": None},
            "continuous actions are an input of a body: features cannot be given",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changed, message):
    mdp = small()
    stream, action = taken(mdp, 40)
    stream = stream._replace(next_observation=stream.next_observation - 0.25)
    uniform = {"values": "q", "action": action, "policy": lambda s: torch.ones(len(s), 2) / 2}
    with pytest.raises(ValueError, match=f"^{message}") as refused:
        evaluate(stream, **{**uniform, "rule": "td", "steps": 3, **changed})
    assert "\n" not in str(refused.value)
