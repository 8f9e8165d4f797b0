"""Functions with the same fingerprint have the same program; another program has another one."""

from functools import partial

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from neural_tdc.compiled import fingerprint as module
from neural_tdc.compiled import small_products
from neural_tdc.compiled.compilation import multiplied_here, written_out
from neural_tdc.compiled.fingerprint import fingerprint, stored_in_order
from neural_tdc.compiled.flat_functions import flat_function
from neural_tdc.learning.experience import Experience
from neural_tdc.learning.learner import updates
from neural_tdc.learning.optimisers import part_optimizers
from neural_tdc.learning.preparation import prepare
from neural_tdc.learning.sampling import MarkovSampling, ReplaySampling
from neural_tdc.learning.schedules import schedule
from neural_tdc.networks.bodies import mlp
from neural_tdc.rules.registry import RULES
from neural_tdc.types import StepSizes, Transition

TABLE = torch.tensor([0.5, 0.25, 2.0])
X, Y = torch.arange(12.0).reshape(3, 4), torch.ones(3, 4)


def flat(function, carried=X, constant=Y, product=written_out):
    return flat_function(function, carried, constant, stored_in_order, product)


def base(carried, constant):
    return carried * 0.5 + constant


def test_functions_of_the_same_operations_have_the_same_fingerprint():
    factor = 1 / 2

    def other(carried, constant):
        half = carried * factor
        return half + constant

    known = fingerprint(flat(base))
    assert known == fingerprint(flat(other))
    # The numbers in what is given are no part of a program.
    assert known == fingerprint(flat(base, X + 7, Y - 3))
    assert known is not None
    assert len(known) == 64


@pytest.mark.parametrize(
    "changed",
    [
        flat(lambda carried, constant: carried * 0.25 + constant),
        flat(lambda carried, constant: carried * 0.5 - constant),
        flat(lambda carried, constant: constant + carried * 0.5),
        flat(lambda carried, constant: constant * 0.5 + constant),
        flat(lambda carried, constant: carried * 0.5 + constant + 0),
        flat(base, X[:2], Y[:2]),
        flat(base, X.double(), Y.double()),
        flat(base, X, Y.mT.contiguous().mT),
        flat(base, X, Y[:1]),
        # The same tensor given twice.
        flat(base, X, X),
        flat(lambda carried, constant: (carried * 0.5 + constant, carried), X, Y),
    ],
)
def test_another_function_or_other_shapes_have_another_fingerprint(changed):
    assert fingerprint(changed) not in (None, fingerprint(flat(base)))


def test_the_numbers_of_a_tensor_that_the_function_reads_are_part_of_it():
    found = {
        fingerprint(flat(lambda carried, constant, table=table: carried[:, :3] * table))
        for table in (TABLE, TABLE + 1e-7, TABLE.double(), TABLE[None])
    }
    assert len(found - {None}) == 4


def test_what_takes_the_place_of_a_product_is_part_of_it_and_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(small_products, "compiled_library", None)
    given = torch.ones(2, 40, 8), torch.ones(2, 8, 8)
    products = (written_out, multiplied_here, lambda left, right: NotImplemented)
    found = {fingerprint(flat(torch.bmm, *given, product=product)) for product in products}
    assert len(found - {None}) == 3


@pytest.mark.parametrize(
    "function",
    [
        lambda carried, constant: carried * carried.sum().item(),
        lambda carried, constant: carried if bool((constant > 0).all()) else constant,
        lambda carried, constant: carried + torch.rand(3, 4),
        lambda carried, constant: carried.to_sparse().to_dense(),
        lambda carried, constant: carried @ constant,
        lambda carried, constant: carried * torch.ones(1, device="meta"),
    ],
)
def test_what_cannot_be_told_has_none(function):
    assert fingerprint(flat(function)) is None


def learner(rule="tdc", optimizer="sgd", decay="constant", sampling=None, seed=0, runs=2, body=3):
    """Return an update of a population as it is compiled."""
    source = torch.Generator().manual_seed(seed)
    seen = torch.randn(2, 9, 4, generator=source)
    ones = torch.ones(2, 8)
    stream = Transition(seen[:, :-1], ones, 0.9 * ones, seen[:, 1:], ones, 0 * ones)
    algorithm, state = prepare(
        RULES[rule],
        partial(mlp, features=body, hidden=(5,)),
        seen[0],
        runs=runs,
        seed=seed,
        optimizers=part_optimizers(optimizer),
    )
    index = torch.arange(runs)
    experience = Experience(stream, None, index, index.clone())
    single = updates(algorithm, schedule(decay, 100), sampling or MarkovSampling(1))

    def function(carried, constant):
        (state, update), (experience, base) = carried, constant
        return single(state, experience, update, base)

    sizes = StepSizes(*(torch.full((runs,), 0.1 * (1 + seed)) for _ in range(3)))
    zero = torch.zeros((), dtype=torch.int64)
    return flat(function, (state, zero), (experience, sizes), multiplied_here)


def test_each_thing_that_changes_a_learner_s_program_changes_it_and_seeds_do_not():
    known = fingerprint(learner())
    assert known == fingerprint(learner(seed=3))
    changes = [
        {"rule": "td"},
        {"rule": "tdrc"},
        {"optimizer": "rmsprop"},
        {"decay": "linear"},
        {"sampling": MarkovSampling(2)},
        {"sampling": ReplaySampling(2)},
        {"runs": 1},
        {"body": 2},
    ]
    found = {known, *(fingerprint(learner(**change)) for change in changes)}
    assert len(found - {None}) == 1 + len(changes)


def test_the_operations_that_are_noted_are_those_that_the_compiler_gets(monkeypatch):
    noted = []
    original = module._Noted.note

    def note(self, *words):
        noted.append(words[0])
        original(self, *words)

    monkeypatch.setattr(module._Noted, "note", note)
    update = learner(rule="tdrc", optimizer="adam")
    assert fingerprint(update) is not None
    with torch.no_grad():
        traced = make_fx(update.call, decomposition_table=update.replacements)(*update.inputs)
    calls = [node for node in traced.graph.nodes if node.op == "call_function"]
    names = [str(node.target) for node in calls if "getitem" not in str(node.target)]
    assert len(names) > 100
    assert [word for word in noted if "." in word] == names
