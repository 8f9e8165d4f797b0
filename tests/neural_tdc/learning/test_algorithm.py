"""One step is Algorithm 1 as the paper writes it; a population is many such steps."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from neural_tdc.learning.algorithm import Algorithm, State, initial_state, population, step
from neural_tdc.learning.optimisers import PLAIN_STEPS, PartOptimizers, rmsprop, sgd
from neural_tdc.learning.preparation import initial_population
from neural_tdc.learning.projections import projection
from neural_tdc.networks.bodies import initial_bodies, mlp
from neural_tdc.networks.feature_map import feature_map
from neural_tdc.rules.composition import NO_STATE
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters, StepSizes, Transition

F64 = torch.float64
RUNS, BATCH, STATE, FEATURE, STEPS = 3, 6, 4, 5, 5


def batches(count, *leading, batch=BATCH, seed=0):
    """Draw off-policy batches, some of whose transitions end an episode."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*leading, *shape, generator=g, dtype=F64)

    def uniform():
        return torch.rand(*leading, batch, generator=g, dtype=F64)

    return [
        Transition(
            normal(batch, STATE),
            normal(batch),
            0.9 * (uniform() < 0.7).double(),
            normal(batch, STATE),
            2 * uniform(),
            (uniform() < 0.3).double(),
        )
        for _ in range(count)
    ]


def one_layer(seed=0, project="none", optimizers=PLAIN_STEPS):
    """Make Algorithm 1 on a body φ = tanh(Us + u), with a start where nothing is 0."""
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    module = mlp((STATE,), FEATURE, ()).double()
    body = {name: p.detach() for name, p in module.named_parameters()}
    parameters = Parameters(
        body,
        torch.randn(FEATURE, generator=g, dtype=F64),
        {"tdc": torch.randn(FEATURE, generator=g, dtype=F64)},
    )
    algorithm = Algorithm(RULES["tdc"], feature_map(module), optimizers, projection(project))
    return algorithm, initial_state(algorithm, parameters, NO_STATE)


def in_ball(radius, *arrays):
    norm = np.sqrt(sum((array**2).sum() for array in arrays))
    return [array * min(1.0, radius / norm) for array in arrays]


def algorithm_1(parameters, batches, sizes, radius=np.inf, omega_first=False):
    """Run Algorithm 1 in plain numbers, one transition at a time; return U, u, θ, ω."""
    U, u = (parameters.body[name].numpy() for name in ("0.weight", "0.bias"))
    theta, omega = parameters.head.numpy(), parameters.auxiliary["tdc"].numpy()
    for batch, (alpha, beta, eta) in zip(batches, sizes):
        dU, du, dtheta, domega = np.zeros_like(U), np.zeros_like(u), 0 * theta, 0 * omega
        for s, r, gamma, s_next, rho, _ in zip(*(leaf.numpy() for leaf in batch)):
            phi, phi_next = np.tanh(U @ s + u), np.tanh(U @ s_next + u)
            delta = r + gamma * theta @ phi_next - theta @ phi
            domega += (rho * delta - phi @ omega) * phi / BATCH
        if omega_first:
            omega = omega + eta * domega
        for s, r, gamma, s_next, rho, _ in zip(*(leaf.numpy() for leaf in batch)):
            phi, phi_next = np.tanh(U @ s + u), np.tanh(U @ s_next + u)
            delta = r + gamma * theta @ phi_next - theta @ phi
            inner = phi @ omega
            dtheta += rho * (delta * phi - gamma * phi_next * inner) / BATCH
            c = (rho * delta - inner) * omega - rho * inner * theta
            c_next = gamma * rho * inner * theta
            slope, slope_next = (1 - phi**2) * c, (1 - phi_next**2) * c_next
            dU += (np.outer(slope, s) + np.outer(slope_next, s_next)) / BATCH
            du += (slope + slope_next) / BATCH
        if not omega_first:
            omega = omega + eta * domega
        (theta,) = in_ball(radius, theta + beta * dtheta)
        U, u = in_ball(radius, U - alpha * dU, u - alpha * du)
    return U, u, theta, omega


def distance(parameters, arrays):
    """Return the largest difference from numpy's U, u, θ, ω."""
    tensors = [
        parameters.body["0.weight"],
        parameters.body["0.bias"],
        parameters.head,
        parameters.auxiliary["tdc"],
    ]
    return max(float(np.abs(t.numpy() - a).max()) for t, a in zip(tensors, arrays))


SIZES = [StepSizes(0.3 / (k + 1), 0.5 / (k + 2), 0.9 / (k + 3)) for k in range(STEPS)]


def run(algorithm, state, seen, sizes=SIZES):
    for batch, size in zip(seen, sizes):
        state = step(algorithm, state, batch, size)
    return state


@pytest.mark.parametrize("radius", [np.inf, 1.5], ids=["free", "ball"])
def test_five_steps_equal_algorithm_1_written_out_by_hand(radius):
    algorithm, start = one_layer(project="none" if radius == np.inf else f"ball:{radius}")
    seen = batches(STEPS)
    got = run(algorithm, start, seen).parameters
    assert distance(got, algorithm_1(start.parameters, seen, SIZES, radius)) < 1e-12


def test_all_right_hand_sides_are_taken_at_step_k():
    algorithm, start = one_layer()
    seen = batches(STEPS)
    got = run(algorithm, start, seen).parameters
    # The same algorithm with the new ω in the other two lines is plainly another one.
    assert distance(got, algorithm_1(start.parameters, seen, SIZES, omega_first=True)) > 1e-2


def test_head_and_body_are_projected_and_the_auxiliary_vector_is_not():
    algorithm, start = one_layer(project="box:0.2")
    sizes = [StepSizes(1.0, 1.0, 1.0)]
    got = run(algorithm, start, batches(1), sizes).parameters
    free = run(algorithm._replace(project=projection("none")), start, batches(1), sizes).parameters
    for name, tensor in free.body.items():
        assert torch.equal(got.body[name], tensor.clamp(-0.2, 0.2))
    assert torch.equal(got.head, free.head.clamp(-0.2, 0.2))
    assert float(free.head.abs().max()) > 0.2
    assert torch.equal(got.auxiliary["tdc"], free.auxiliary["tdc"])
    assert float(got.auxiliary["tdc"].abs().max()) > 0.2


def test_the_body_is_shrunk_as_one_vector_apart_from_the_head():
    algorithm, start = one_layer(project="ball:0.5")
    got = run(algorithm, start, batches(1)).parameters
    norm = torch.cat([leaf.flatten() for leaf in got.body.values()]).norm()
    assert float(norm) == pytest.approx(0.5, rel=1e-12)
    assert float(got.head.norm()) == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("still", ["body", "head", "auxiliary"])
def test_a_step_size_moves_its_own_part_and_no_other(still):
    algorithm, start = one_layer()
    sizes = StepSizes(0.1, 0.2, 0.3)
    moved = step(algorithm, start, batches(1)[0], sizes).parameters
    held = step(algorithm, start, batches(1)[0], sizes._replace(**{still: 0.0})).parameters
    for name in Parameters._fields:
        before, after, without = (
            torch.cat([leaf.flatten() for leaf in tree_leaves(getattr(p, name))])
            for p in (start.parameters, moved, held)
        )
        assert not torch.equal(before, after)
        assert torch.equal(without, before if name == still else after)


def test_rmsprop_rescales_the_direction_before_the_step_size():
    optimizers = PartOptimizers(head=rmsprop(decay=0.9, eps=1e-3))
    algorithm, start = one_layer(optimizers=optimizers)
    seen = batches(2)
    square = torch.zeros(FEATURE, dtype=F64)
    state = start
    for batch, size in zip(seen, SIZES):
        direction = algorithm.rule.directions(algorithm.features, state.parameters, batch).head
        square = 0.9 * square + 0.1 * direction**2
        expected = state.parameters.head - size.head * direction / (square.sqrt() + 1e-3)
        state = step(algorithm, state, batch, size)
        assert torch.allclose(state.parameters.head, expected, rtol=1e-14)
    assert torch.allclose(state.optimizer_state.head, square, rtol=1e-14)


def one_run(states, run):
    return tree_map(lambda leaf: leaf[run], states)


COMPOSITIONS = ["semi_gradient+lstd", "generalized+lstd", "mspbe+htd", "semi_gradient+tdc"]


@pytest.mark.parametrize("name", [*RULES, *COMPOSITIONS])
def test_a_population_equals_one_run_at_a_time(name):
    rule = RULES[name]
    head = sgd() if "lstd" in name else rmsprop(eps=1e-2)
    optimizers = PartOptimizers(rmsprop(eps=1e-2), head)
    module, bodies = initial_bodies(lambda shape: mlp(shape, FEATURE, (7,)), (STATE,), 0, RUNS)
    bodies = {key: tensor.double() for key, tensor in bodies.items()}
    algorithm = Algorithm(rule, feature_map(module), optimizers, projection("ball:6"))
    g = torch.Generator().manual_seed(1)
    head = torch.randn(FEATURE, generator=g, dtype=F64)
    start = initial_population(algorithm, bodies, head, torch.ones(4, STATE, dtype=F64), 0, RUNS)
    # Every run has step sizes and batches of its own.
    sizes = StepSizes(*(torch.tensor([a, 2 * a, 0.5 * a], dtype=F64) for a in (0.01, 0.02, 0.03)))
    seen = batches(4, RUNS, batch=1 if name == "etd" else BATCH)
    many, together = population(partial(step, algorithm)), start
    for batch in seen:
        together = many(together, batch, sizes)
    for i in range(RUNS):
        alone = one_run(start, i)
        for batch in seen:
            mine = Transition(*(leaf[i] for leaf in batch))
            alone = step(algorithm, alone, mine, StepSizes(*(size[i] for size in sizes)))
        assert isinstance(alone, State)
        moved = [
            (one - leaf[i]).abs().max()
            for one, leaf in zip(tree_leaves(alone.parameters), tree_leaves(start.parameters))
            if leaf.numel()
        ]
        assert max(moved) > 1e-3
        for one, leaf in zip(tree_leaves(alone), tree_leaves(together)):
            assert torch.allclose(one, leaf[i], rtol=1e-12, atol=1e-12)


def test_a_population_takes_transitions_that_do_not_tell_where_episodes_start():
    algorithm, start = one_layer()
    many = population(partial(step, algorithm))
    start = tree_map(lambda leaf: torch.stack([leaf, 2 * leaf]), start)
    (batch,) = batches(1, 2)
    sizes = StepSizes(*torch.tensor([[0.1, 0.2], [0.2, 0.3], [0.3, 0.4]], dtype=F64))
    told = many(start, batch._replace(first=torch.zeros_like(batch.reward)), sizes)
    untold = many(start, batch._replace(first=None), sizes)
    assert torch.equal(told.parameters.head, untold.parameters.head)


@pytest.mark.slow
def test_a_compiled_population_equals_the_eager_one():
    torch.manual_seed(0)
    runs, batch, state = 3, 5, 4
    draw = partial(torch.randn, dtype=F64)
    module, bodies = initial_bodies(lambda shape: mlp(shape, 6, (7,)), (state,), 0, runs)
    bodies = {name: tensor.double() for name, tensor in bodies.items()}
    optimizers = PartOptimizers(rmsprop(eps=1e-2))
    algorithm = Algorithm(RULES["tdc"], feature_map(module), optimizers, projection("ball:4"))
    start = initial_population(algorithm, bodies, draw(6), draw(4, state), 0, runs)
    sizes = StepSizes(*(a * torch.rand(runs, dtype=F64) for a in (0.02, 0.05, 0.1)))
    eager = population(partial(step, algorithm))
    compiled = population(partial(step, algorithm), compile=True)
    one = two = start
    with torch.no_grad():
        for _ in range(30):
            ratio = 2 * torch.rand(runs, batch, dtype=F64)
            discount = 0.9 * (torch.rand(runs, batch) < 0.8).double()
            seen = (draw(runs, batch, state), draw(runs, batch), discount)
            seen = Transition(*seen, draw(runs, batch, state), ratio)
            one, two = eager(one, seen, sizes), compiled(two, seen, sizes)
    for ours, theirs in zip(tree_leaves(one), tree_leaves(two), strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    assert (one.parameters.head - start.parameters.head).abs().max() > 0.05
