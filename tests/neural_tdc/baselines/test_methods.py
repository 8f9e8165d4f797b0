import pytest
import torch

from neural_tdc import Transition, evaluate
from neural_tdc.baselines.feature_blocks import block_features
from neural_tdc.baselines.fitted import network_block
from neural_tdc.baselines.held_out_ridge import ridge_head
from neural_tdc.baselines.lambda_returns import lambda_errors, td_errors
from neural_tdc.baselines.linear_value import LinearValue
from neural_tdc.baselines.method import Method, learned_values
from neural_tdc.baselines.methods import METHODS, FittedReturns, LstdRandom, rule_or_method
from neural_tdc.baselines.prefixes import prefix_measurements, prefix_steps
from neural_tdc.baselines.random_features import random_tanh
from neural_tdc.baselines.stackelberg_method import StackelbergTd
from neural_tdc.metrics.evaluators import Truth, sample_evaluator
from neural_tdc.metrics.samples import in_rows
from neural_tdc.networks.mlp_population import initial_networks
from neural_tdc.randomness import generator
from neural_tdc.rules.rule import Rule

# A walk on the unit interval in steps of 1/8, left at both ends: V(s) = 100·s + 7 for γ = 1.
INSIDE = torch.arange(1, 8, dtype=torch.float64) / 8
STATES = torch.stack([INSIDE, torch.ones(7, dtype=torch.float64)], 1)
TRUTH = 100 * INSIDE + 7


def walk(time, seed=0):
    source = torch.Generator().manual_seed(seed)
    state, start, rows = 0.5, 1.0, []
    for draw in torch.rand(time, generator=source, dtype=torch.float64).tolist():
        after = state + (0.125 if draw < 0.5 else -0.125)
        ends = after <= 0 or after >= 1
        reward = (107.0 if after >= 1 else 7.0) if ends else 0.0
        rows.append(([state, 1.0], reward, 0.0 if ends else 1.0, [after, 1.0], 1.0, start))
        state, start = (0.5, 1.0) if ends else (after, 0.0)
    return Transition(*(torch.tensor(leaf, dtype=torch.float64) for leaf in zip(*rows)))


def quick(name, updates=300):
    method = METHODS[name]
    return method.with_settings(updates=updates) if "updates" in method.settings else method


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_evaluated_as_a_rule_is_in_the_units_of_the_rewards(name):
    result = evaluate(walk(2_500), rule=quick(name), runs=2)
    error = (result.value(STATES) - TRUTH).square().mean().sqrt() / TRUTH.std()
    assert error < (1.2 if name == "constant" else 0.15), name
    assert result.steps == [2_000]
    assert result.measurements["error/rmstde"].shape == (1, 2)
    assert not result.diverged.any()
    values = result.value(STATES, run=1)
    assert (values.std() < 1e-9) == (name == "constant")


@pytest.mark.parametrize("name", METHODS)
def test_a_run_depends_on_its_own_stream_and_number_only(name):
    streams = [walk(300, seed=1), walk(340, seed=2), walk(280, seed=3)]
    method = quick(name).with_settings(
        **({"updates": 20} if "updates" in quick(name).settings else {})
    )
    both = learned_values(method, streams[:2], seed=4)
    more = learned_values(method, streams, seed=4)
    for alone, among in zip(both, more):
        torch.testing.assert_close(alone(STATES), among(STATES), rtol=1e-4, atol=1e-3)


def test_a_name_is_a_method_or_a_rule():
    assert rule_or_method("lstd-random") is METHODS["lstd-random"]
    assert rule_or_method("tdc").name == "tdc"
    assert rule_or_method("semi_gradient+lstd").name == "semi_gradient+lstd"
    with pytest.raises(ValueError, match="did you mean lstd-random"):
        rule_or_method("lstd-randon")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"head_step": 0.5},
            "head_step has no effect on lstd-random, which is not a learning rule",
        ),
        ({"body": None}, "body has no effect on lstd-random"),
        ({"batch": 4}, "batch has no effect on lstd-random"),
        ({"rule": "constant", "trace_decay": 0.5}, "constant has no setting trace_decay"),
    ],
)
def test_what_only_rules_take_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        evaluate(walk(200), **{"rule": "lstd-random", **settings})


def test_the_trace_decay_of_evaluate_is_the_methods():
    stream = walk(400)
    found = evaluate(stream, rule="lstd-random", trace_decay=0.5).value(STATES)
    expected = evaluate(stream, rule=LstdRandom(trace_decay=0.5)).value(STATES)
    assert torch.equal(found, expected)
    assert not torch.equal(found, evaluate(stream, rule="lstd-random").value(STATES))


def test_the_ridge_is_that_of_the_least_held_out_error():
    stream = walk(800)
    stream = stream._replace(reward=(stream.reward - 57) / 50)
    block = random_tanh(2, 40, 2.0, generator(0, "test"))
    small, large = (ridge_head([block], stream, 0.9, (ridge,)) for ridge in (1e-4, 1e4))
    torch.testing.assert_close(ridge_head([block], stream, 0.9, (1e4, 1e-4)), small)
    assert not torch.allclose(small, large)


def test_a_stream_of_one_episode_takes_the_usual_ridge():
    stream = walk(400)
    length = int((stream.discount == 0).nonzero()[0]) + 1
    episode = Transition(*(leaf[:length] for leaf in stream))
    block = random_tanh(2, 12, 2.0, generator(0, "test"))
    found = ridge_head([block], episode, 0.9, (1e-5, 1e-1))
    assert torch.equal(found, ridge_head([block], episode, 0.9, (1e-3,)))


def test_heads_solved_while_the_body_learns_are_the_best_responses_that_targets_build_on():
    method = StackelbergTd(updates=40, random_features=5, hidden=(6, 3), solves="refits")
    streams = [walk(300, seed=1), walk(260, seed=2)]
    heard = []
    method.learn(streams, 0, lambda done, total: heard.append((done, total)))
    assert heard[-1] == (40, 40)
    networks = initial_networks([2, 6, 3, 1], 0, 2, torch.float64)
    random = [random_tanh(2, 5, 2.0, generator(0, "test", run)) for run in range(2)]
    response = method._response(streams, random, networks)
    block, _ = network_block(networks, 1)
    learned = block_features([block], streams[1].observation)[:, :-1] @ response.head[1, :, 0]
    value = learned + response.beside[1][:, 0]
    following = block_features([block], streams[1].next_observation)[:, :-1]
    next_value = following @ response.head[1, :, 0] + response.next_beside[1][:, 0]
    # LSTD(λ): Σ δ^λ x = ε·E[x²]·T·θ, so without a ridge on the constant Σ δ^λ = 0.
    errors = lambda_errors(td_errors(value, next_value, streams[1]), streams[1], 0.9)
    assert abs(errors.mean()) < 1e-6
    with pytest.raises(ValueError, match="solves is 'never'; it must be end or refits"):
        StackelbergTd(solves="never")
    for name in ("fitted", "stackelberg-td"):
        with pytest.raises(ValueError, match="updates is 0; it must be at least 1"):
            METHODS[name].with_settings(updates=0)


class Numbered(Method):
    """A method of a user's own: the number of the run, in units."""

    name = "numbered"

    def learn(self, streams, seed, on_progress):
        return [
            LinearValue([], torch.full((1,), float(run + 1), dtype=torch.float64))
            for run, _ in enumerate(streams)
        ]


def test_a_method_of_ones_own_is_evaluated():
    stream = walk(400)
    units = evaluate(stream, rule="constant").value(STATES)
    result = evaluate(stream, rule=Numbered(), runs=3)
    step = result.value(STATES, run=1) - result.value(STATES, run=0)
    torch.testing.assert_close(result.value(STATES, run=2) - result.value(STATES, run=0), 2 * step)
    assert (step > 1).all()
    assert units.std() < 1e-9


def test_prefixes_are_measured_in_proportion_and_resumed_after_any():
    assert prefix_steps(1_000, 4) == [250, 500, 750, 1_000]
    assert prefix_steps(3, 10) == [1, 2, 3]
    streams = [walk(600, seed=seed) for seed in (1, 2)]
    truth = Truth(STATES, torch.full((7,), 1 / 7, dtype=torch.float64), TRUTH, 0.0)
    held = walk(100, seed=5)

    def measured(start=0):
        return list(
            prefix_measurements(
                FittedReturns(updates=10),
                streams,
                lambda features: sample_evaluator(in_rows(held), truth, features, Rule()),
                steps=1_200,
                prefixes=3,
                seed=0,
                start=start,
            )
        )

    whole = measured()
    assert [each.step for each in whole] == [400, 800, 1_200]
    assert [each.step for each in measured(start=400)] == [800, 1_200]
    again = measured(start=800)[0]
    assert torch.equal(again.values["error/rmsve"], whole[2].values["error/rmsve"])
    half = learned_values(
        FittedReturns(updates=10), [Transition(*(x[:200] for x in s)) for s in streams], 0
    )
    error = (half[1](STATES) - TRUTH).square().mean().sqrt()
    torch.testing.assert_close(whole[0].values["error/rmsve"][1], error)
