"""Polyak averaging is the mean of all updates' parameters, and what is measured and returned."""

from functools import partial

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from neural_tdc import Transition, evaluate
from neural_tdc.learning.algorithm import Algorithm, initial_state, population, step
from neural_tdc.learning.averaging import (
    Averaging,
    averaged,
    averaging,
    initial_average,
    updated_average,
)
from neural_tdc.learning.experience import Experience
from neural_tdc.learning.learner import divergence_limit, learn
from neural_tdc.learning.optimisers import part_optimizers
from neural_tdc.learning.preparation import base_steps, prepare
from neural_tdc.learning.projections import projection
from neural_tdc.learning.sampling import IidSampling
from neural_tdc.learning.schedules import measured_steps, schedule
from neural_tdc.networks.bodies import mlp
from neural_tdc.networks.feature_map import given_features
from neural_tdc.randomness import keys
from neural_tdc.rules.composition import NO_STATE
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters, StepSizes

F64 = torch.float64
RUNS, TIME, STATE = 3, 50, 4


def drawn(generator):
    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=F64)

    return Parameters({"w": draw(5, 3)}, draw(6), {"tdc": draw(2)})


@pytest.mark.parametrize("after", [0, 1, 7])
@pytest.mark.parametrize("name", ["head", "all"])
def test_the_average_is_the_mean_of_the_updates_behind_the_first(name, after):
    g = torch.Generator().manual_seed(0)
    which = averaging(name, after)
    start = drawn(g)
    state, seen = initial_average(which, start), []
    for count in range(1, 31):
        seen.append(drawn(g))
        state = updated_average(which, state, seen[-1])
        mean = averaged(seen[-1], state)
        # Up to `after` there is nothing to take the mean of but the last update.
        counted = seen[after:] if count > after else seen[-1:]
        for part in Parameters._fields:
            leaves = [tree_leaves(getattr(each, part)) for each in counted]
            for index, mine in enumerate(tree_leaves(getattr(mean, part))):
                total = torch.zeros_like(mine)
                for each in leaves:
                    total = total + each[index]
                expected = total / len(leaves)
                if name == "head" and part != "head":
                    expected = tree_leaves(getattr(seen[-1], part))[index]
                assert torch.allclose(mine, expected, rtol=1e-12, atol=1e-13)


def test_the_start_is_not_part_of_the_mean():
    state = initial_average(Averaging(("head",)), Parameters({}, torch.tensor([9.0]), {}))
    state = updated_average(Averaging(("head",)), state, Parameters({}, torch.tensor([1.0]), {}))
    assert state.mean["head"].tolist() == [1.0]


def test_nothing_is_kept_where_nothing_is_averaged():
    parameters = drawn(torch.Generator().manual_seed(0))
    assert initial_average(averaging("none"), parameters) == {}
    assert averaged(parameters, updated_average(averaging("none"), {}, parameters)) is parameters


@pytest.mark.parametrize(
    ("name", "after", "said"),
    [
        ("tail", 0, "average 'tail' is not one of none, head, all"),
        ("all", -1, "average_after is -1"),
    ],
)
def test_other_averages_are_refused(name, after, said):
    with pytest.raises(ValueError, match=said):
        averaging(name, after)


def transitions(runs=RUNS):
    g = torch.Generator().manual_seed(1)
    observation = torch.randn(runs, TIME + 1, STATE, generator=g, dtype=F64)
    reward = observation[:, 1:].sum(2)
    return Transition(
        observation[:, :-1],
        reward,
        torch.full_like(reward, 0.8),
        observation[:, 1:],
        torch.rand(runs, TIME, generator=g, dtype=F64) + 0.5,
    )


def test_averaging_does_not_touch_learning_and_follows_the_projected_parameters():
    rule, features = RULES["tdc"].with_given_features(), given_features
    seen = transitions(1)
    plain = Algorithm(rule, features, project=projection("ball:0.3"))
    mean = plain._replace(averaging=averaging("all"))
    parameters = rule.init(
        Parameters({}, torch.zeros(STATE, dtype=F64), {}), seen.observation[0], torch.Generator()
    )[0]
    states = [initial_state(each, parameters, NO_STATE) for each in (plain, mean)]
    heads = []
    for time in range(20):
        batch = Transition(
            *(leaf[0, time : time + 1] for leaf in seen[:5]), torch.zeros(1, dtype=F64)
        )
        sizes = StepSizes(0.0, 0.5, 0.5)
        states = [step(each, state, batch, sizes) for each, state in zip((plain, mean), states)]
        heads.append(states[1].parameters.head)
    assert torch.equal(states[0].parameters.head, states[1].parameters.head)
    assert float(heads[-1].norm()) == pytest.approx(0.3)
    expected = torch.stack(heads).mean(0)
    assert torch.allclose(states[1].average.mean["head"], expected, rtol=1e-13)


def population_of(rule="tdc", optimizers="adam", average="all", after=2, runs=RUNS):
    seen = transitions()
    algorithm, state = prepare(
        RULES[rule],
        lambda shape: mlp(shape, 5, (6,), layer_norm=True),
        seen.observation[0],
        runs=runs,
        seed=0,
        optimizers=part_optimizers(optimizers, 2.0),
        averaging=averaging(average, after),
    )
    experience = Experience(seen, None, torch.arange(runs), keys(0, runs, "sampling"))
    return algorithm, state, experience


def norms(parameters):
    return {"norm": parameters.head.norm(dim=1), "body": parameters.body["0.weight"].sum((1, 2))}


def learned(setting, sizes, steps=12, every=4, **options):
    algorithm, state, experience = setting
    return list(
        learn(
            algorithm,
            options.pop("state", state),
            experience,
            sizes,
            schedule("linear", 12),
            IidSampling(3),
            norms,
            steps=steps,
            measured=measured_steps(steps, every),
            limit=divergence_limit(state.parameters),
            **options,
        )
    )


def sizes_of(*bodies):
    size = torch.tensor(bodies, dtype=F64)
    return StepSizes(size, 4 * size, 3 * size)


CALM = sizes_of(0.01, 0.02, 0.03)


def same_bits(left, right):
    return all(
        torch.equal(a, b) for a, b in zip(tree_leaves(left), tree_leaves(right), strict=True)
    )


@pytest.mark.parametrize("average", ["head", "all"])
def test_the_averaged_parameters_are_measured_and_handed_out(average):
    last = learned(population_of(average=average), CALM)[-1]
    mean, present = last.parameters, last.state.parameters
    assert not torch.equal(mean.head, present.head)
    assert torch.equal(last.values["norm"], mean.head.norm(dim=1))
    assert same_bits(mean.body, present.body) == (average == "head")
    assert torch.equal(last.values["body"], mean.body["0.weight"].sum((1, 2)))


def test_adam_averages_and_schedules_resume_to_the_same_bits():
    whole = learned(population_of(), CALM)
    assert [each.step for each in whole] == [1, 5, 9, 12]
    middle = tree_map(torch.clone, whole[1].state)
    rest = learned(population_of(), CALM, state=middle, start=5)
    for mine, theirs in zip(rest, whole[2:], strict=True):
        assert same_bits(mine.state, theirs.state)
        assert same_bits(mine.parameters, theirs.parameters)


def test_a_run_that_diverges_leaves_its_neighbours_bits_under_adam():
    # Adam's steps are of the size of the step size, however large the directions are.
    wild = learned(population_of(), sizes_of(0.01, 1e9, 0.03))[-1]
    calm = learned(population_of(), CALM)[-1]
    assert wild.diverged.tolist() == [False, True, False]
    others = [0, 2]
    for mine, theirs in zip(tree_leaves(wild.state), tree_leaves(calm.state), strict=True):
        assert torch.equal(mine[others], theirs[others])


def test_a_population_of_the_library_averages_by_itself():
    algorithm, state, experience = population_of()
    batch = Transition(*(leaf[:, :4] for leaf in experience.transitions[:5]))
    many, alone = population(partial(step, algorithm)), []
    for _ in range(5):
        state = many(state, batch, CALM)
        alone.append(state.parameters.head)
    assert torch.allclose(state.average.mean["head"], torch.stack(alone[2:]).mean(0), rtol=1e-12)


RULES_WITH_ADAM = [*RULES, "semi_gradient+lstd", "generalized+lstd", "mspbe+htd"]


@pytest.mark.parametrize("name", RULES_WITH_ADAM)
def test_every_rule_learns_by_adam_on_a_falling_schedule(name):
    seen = transitions(1)
    result = evaluate(
        Transition(*(leaf[0] for leaf in seen[:5])),
        rule=name,
        optimizer="adam",
        schedule="linear",
        average="all",
        max_grad_norm=1.0,
        steps=30,
        body_step=0.01,
        head_step=0.05,
        body=partial(mlp, features=5, hidden=(6,)),
    )
    assert not result.diverged.any()
    values = result.value(seen.observation[0].float())
    assert bool(values.isfinite().all())
    assert float(values.abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["td", "tdc", "tdrc", "gtd2", "generalized"])
def test_lambda_over_sequences_learns_by_adam(name):
    seen = transitions(1)
    options = {"rule": name, "optimizer": "adam", "steps": 20, "sampling": "sequences", "batch": 2}
    stream = Transition(*(leaf[0] for leaf in seen[:5]))
    one_step, traced = (
        evaluate(stream, trace_decay=decay, sequence_length=6, **options) for decay in (0.0, 0.9)
    )
    assert not torch.equal(one_step.parameters.head, traced.parameters.head)
    assert bool(traced.parameters.head.isfinite().all())


def test_base_steps_of_an_assigned_head_are_left_alone_by_adam():
    algorithm, _, _ = population_of("semi_gradient+lstd")
    sizes = base_steps(algorithm.rule, (0.1, 0.2, 0.3), RUNS, torch.zeros(1, dtype=F64))
    assert sizes.head.tolist() == [1.0] * RUNS
    direction = torch.full((5,), 100.0)
    amount, _ = algorithm.optimizers.head.update(direction, {}, 1.0)
    assert torch.equal(amount, direction)


@pytest.mark.slow
def test_a_compiled_population_under_adam_equals_the_eager_one():
    eager, compiled = (learned(population_of(), CALM, compiled=flag)[-1] for flag in (False, True))
    assert not eager.diverged.any()
    for mine, theirs in zip(tree_leaves(eager.state), tree_leaves(compiled.state), strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-10)
    assert not torch.equal(eager.state.parameters.head, torch.zeros_like(eager.parameters.head))
