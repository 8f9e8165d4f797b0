"""RMSProp and Adam are PyTorch's to the bit, part by part; what is not asked for is not touched."""

import inspect
import math

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from neural_tdc.learning.optimisers import (
    PartOptimizers,
    adam,
    initial_optimizer_state,
    limited,
    optimized,
    part_optimizers,
    rmsprop,
    sgd,
)
from neural_tdc.types import Parameters, StepSizes

F64 = torch.float64
RATES = StepSizes(body=0.03, head=0.007, auxiliary=0.2)
MIXTURES = [
    ("rmsprop", "rmsprop", "rmsprop"),
    ("adam", "adam", "adam"),
    ("adam", "sgd", "rmsprop"),
    ("sgd", "rmsprop", "adam"),
    ("rmsprop", "adam", "sgd"),
    ("sgd", "sgd", "sgd"),
]
STOCK = {"sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop, "adam": torch.optim.Adam}


def draw(*shape, generator, runs=()):
    return torch.randn(*runs, *shape, generator=generator, dtype=F64)


def drawn(generator, runs=()):
    """Draw a body, a head and an auxiliary vector; some numbers are tiny, as gradients are."""
    made = Parameters(
        {
            "w": draw(5, 3, generator=generator, runs=runs),
            "b": draw(4, generator=generator, runs=runs),
        },
        draw(6, generator=generator, runs=runs),
        {"tdc": draw(2, generator=generator, runs=runs)},
    )
    return tree_map(lambda leaf: leaf**5, made)


def of_run(tree, run):
    return tree_map(lambda leaf: leaf[run], tree)


def moved(optimizers, parameters, directions, state, rates):
    subtracted, state = optimized(optimizers, directions, state, rates)
    return tree_map(torch.sub, parameters, subtracted), state


class Stock:
    """The optimisers of torch on a copy of the parameters, one a part."""

    def __init__(self, names, parameters, **options):
        self.parts = [
            [torch.nn.Parameter(leaf.clone()) for leaf in tree_leaves(part)] for part in parameters
        ]
        self.optimizers = [
            STOCK[name](part, lr=rate, **options)
            for name, part, rate in zip(names, self.parts, RATES)
        ]

    def step(self, directions, factor=1.0, max_norm=None):
        for part, optimizer, rate, direction in zip(self.parts, self.optimizers, RATES, directions):
            for leaf, gradient in zip(part, tree_leaves(direction)):
                leaf.grad = gradient.clone()
            if max_norm is not None:
                torch.nn.utils.clip_grad_norm_(part, max_norm)
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.step()

    def leaves(self):
        return [leaf.detach() for part in self.parts for leaf in part]


@pytest.mark.parametrize("names", MIXTURES, ids="-".join)
def test_every_part_takes_the_steps_of_its_torch_optimizer_to_the_bit(names):
    g = torch.Generator().manual_seed(0)
    optimizers, parameters = part_optimizers(names), drawn(g)
    stock, state = Stock(names, parameters), initial_optimizer_state(optimizers, parameters)
    for update in range(300):
        directions, factor = drawn(g), 1 - update / 300
        stock.step(directions, factor)
        rates = StepSizes(*(rate * factor for rate in RATES))
        parameters, state = moved(optimizers, parameters, directions, state, rates)
    for name, mine, theirs in zip(
        [names[0], *names], tree_leaves(parameters), stock.leaves(), strict=True
    ):
        if name == "sgd":  # torch's plain step is one operation with a rounding less.
            assert (mine - theirs).abs().max() < 1e-12
        else:
            assert torch.equal(mine, theirs), name


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_every_run_of_a_population_takes_them_at_its_own_rates_to_the_bit(name):
    g = torch.Generator().manual_seed(1)
    optimizers, runs = part_optimizers(name), (2,)
    parameters = drawn(g, runs)
    factors = torch.tensor([1.0, 0.3], dtype=F64)
    rates = StepSizes(*(rate * factors for rate in RATES))
    alone = [Stock((name,) * 3, of_run(parameters, run)) for run in range(2)]
    state = torch.vmap(lambda part: initial_optimizer_state(optimizers, part))(parameters)
    many = torch.vmap(lambda *each: moved(optimizers, *each))
    for _ in range(200):
        directions = drawn(g, runs)
        for run, (stock, factor) in enumerate(zip(alone, factors.tolist())):
            stock.step(of_run(directions, run), factor)
        parameters, state = many(parameters, directions, state, rates)
    for run, stock in enumerate(alone):
        for mine, theirs in zip(tree_leaves(parameters), stock.leaves(), strict=True):
            assert torch.equal(mine[run], theirs)


def test_adam_keeps_its_bits_where_the_bias_corrections_have_become_1():
    # 0.9^k is nothing from k = 349 on, 0.5^k from k = 53 on: the table of corrections ends there.
    leaf = torch.nn.Parameter(torch.zeros(3, dtype=F64))
    stock, mine = torch.optim.Adam([leaf], lr=0.01, betas=(0.5, 0.9)), adam(0.5, 0.9)
    value = torch.zeros(3, dtype=F64)
    state, g = mine.init(value), torch.Generator().manual_seed(2)
    for _ in range(500):
        leaf.grad = draw(3, generator=g)
        stock.step()
        amount, state = mine.update(leaf.grad, state, 0.01)
        value = value - amount
        assert torch.equal(value, leaf.detach())
    assert int(state.updates) == 500


def test_adam_without_memory_takes_steps_of_one_size():
    optimizer = adam(0.0, 0.0, eps=0.0)
    direction = torch.tensor([3.0, -0.25])
    amount, _ = optimizer.update(direction, optimizer.init(direction), 0.5)
    assert amount.tolist() == [0.5, -0.5]


def test_the_defaults_are_those_of_torch():
    def defaults(function):
        return {name: each.default for name, each in inspect.signature(function).parameters.items()}

    part = [torch.nn.Parameter(torch.zeros(1))]
    stock = torch.optim.RMSprop(part).defaults
    assert defaults(rmsprop) == {"decay": stock["alpha"], "eps": stock["eps"]}
    stock = torch.optim.Adam(part).defaults
    first, second = stock["betas"]
    assert defaults(adam) == {"beta1": first, "beta2": second, "eps": stock["eps"]}


def test_the_first_steps_have_the_sizes_that_are_worked_out_by_hand():
    # RMSProp: v = 0.01·g², so that g/(√v + ε) is 10 for every size of g. Adam: 1 at first. The
    # split would be lost if one optimiser served all parts, and is not where one takes plain steps.
    directions = Parameters({"w": torch.tensor([[3.0]])}, torch.tensor([-0.5]), torch.tensor([7.0]))
    optimizers = PartOptimizers(rmsprop(eps=0.0), sgd(), adam(eps=0.0))
    state = initial_optimizer_state(optimizers, directions)
    amount, _ = optimized(optimizers, directions, state, StepSizes(0.1, 0.2, 0.3))
    assert float(amount.body["w"]) == pytest.approx(1.0, rel=1e-5)
    assert float(amount.head) == pytest.approx(-0.1)
    assert float(amount.auxiliary) == pytest.approx(0.3, rel=1e-5)


# --- the limit of the norm


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam"])
def test_the_limit_of_the_norm_is_that_of_clip_grad_norm_on_each_part(name):
    g = torch.Generator().manual_seed(3)
    optimizers, parameters = part_optimizers(name, max_grad_norm=2.5), drawn(g)
    stock, state = Stock((name,) * 3, parameters), initial_optimizer_state(optimizers, parameters)
    shrunk = 0
    for _ in range(40):
        directions = drawn(g)
        norms = [
            math.sqrt(sum(float(leaf.square().sum()) for leaf in tree_leaves(part)))
            for part in directions
        ]
        # Some parts are beyond the limit while others are not.
        shrunk += 0 < sum(norm > 2.5 for norm in norms) < 3
        stock.step(directions, max_norm=2.5)
        parameters, state = moved(optimizers, parameters, directions, state, RATES)
    assert shrunk > 10
    for mine, theirs in zip(tree_leaves(parameters), stock.leaves(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-11, atol=1e-12)


def test_the_limit_of_the_norm_is_each_runs_own():
    optimizer = limited(sgd(), 1.0)
    direction = torch.tensor([[3.0, 4.0], [0.3, 0.4]], dtype=F64)
    (amount, _) = torch.vmap(lambda each: optimizer.update(each, {}, 1.0))(direction)
    assert torch.allclose(amount, torch.tensor([[0.6, 0.8], [0.3, 0.4]], dtype=F64), atol=1e-6)
    assert torch.equal(amount[1], direction[1])


# --- parts that keep nothing, and what is refused


def test_plain_parts_keep_no_memory():
    directions, optimizers = drawn(torch.Generator().manual_seed(1)), PartOptimizers()
    state = initial_optimizer_state(optimizers, directions)
    assert state == ({}, {}, {})
    amount, kept = optimized(optimizers, directions, state, RATES)
    assert kept == ({}, {}, {})
    assert torch.equal(amount.head, 0.007 * directions.head)


@pytest.mark.parametrize("name", ["rmsprop", "adam"])
def test_a_rule_without_an_auxiliary_vector_or_a_body_can_be_optimized(name):
    directions, optimizers = Parameters({}, torch.ones(3), {}), part_optimizers(name, 0.5)
    state = initial_optimizer_state(optimizers, directions)
    amount, state = optimized(optimizers, directions, state, RATES)
    assert amount.body == state.body == amount.auxiliary == state.auxiliary == {}
    assert bool((amount.head > 0).all())


def test_one_name_is_for_all_parts_and_three_are_one_each():
    state = initial_optimizer_state(
        part_optimizers(("sgd", "adam", "rmsprop")), drawn(torch.Generator().manual_seed(1))
    )
    assert state.body == {}
    assert state.head._fields == ("first", "second", "updates")
    assert set(state.auxiliary) == {"tdc"}


@pytest.mark.parametrize(
    ("names", "limit", "said"),
    [
        ("lion", None, "optimizer 'lion' is not one of sgd, rmsprop, adam"),
        (("sgd", "sdg", "sgd"), None, "optimizer 'sdg'"),
        (("sgd", "adam"), None, "one name, or three"),
        ("adam", 0.0, "max_grad_norm is 0; it must be finite and above 0"),
        ("adam", math.inf, "max_grad_norm is inf"),
    ],
)
def test_other_names_and_limits_are_refused(names, limit, said):
    with pytest.raises(ValueError, match=said):
        part_optimizers(names, limit)
