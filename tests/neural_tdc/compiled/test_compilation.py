"""Compiled programs against what they were made from."""

import importlib
import importlib.util
import re
import shutil
import sys
import uuid
from types import ModuleType

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves

from envs.finite.finite_mdp import chain
from envs.finite.standard_problems import problem
from envs.finite.streams import simulate_streams
from neural_tdc.compiled import compilation, private_compiler
from neural_tdc.compiled.compilation import (
    FEW_PRODUCTS,
    SMALL_PRODUCT,
    WRITTEN_OUT,
    compile_for_threads,
    compile_repeatable,
    compiled_at_first_call,
    multiplied_here,
    store_mixed_words,
    written_out,
)
from neural_tdc.compiled.private_compiler import (
    PRECOMPILED_HEADERS,
    compiler,
    compiler_available,
    compiler_settings,
    import_compiler,
)
from neural_tdc.learning.experience import Experience
from neural_tdc.learning.learner import divergence_limit, learn
from neural_tdc.learning.preparation import prepare
from neural_tdc.learning.sampling import ReplaySampling
from neural_tdc.learning.schedules import schedule
from neural_tdc.metrics.evaluators import chain_evaluator
from neural_tdc.randomness import draw, keys
from neural_tdc.rules.registry import RULES
from neural_tdc.types import StepSizes


def test_headers_are_compiled_beforehand_only_where_the_variable_of_torch_says_so(monkeypatch):
    inductor = compiler()
    with inductor.settings(compiler_settings()):
        # The suite sets it, see conftest.py.
        assert importlib.import_module("torch._inductor.config").cpp_cache_precompile_headers
    monkeypatch.delenv(PRECOMPILED_HEADERS)
    with inductor.settings(compiler_settings()):
        assert not importlib.import_module("torch._inductor.config").cpp_cache_precompile_headers


def test_the_compiler_is_imported_beforehand_and_its_faults_are_told_later(monkeypatch):
    import_compiler()
    assert "torch._inductor.compile_fx" in sys.modules
    monkeypatch.setattr(private_compiler, "OLDEST", (99, 0))
    import_compiler()
    with pytest.raises(RuntimeError, match="too old"):
        compiler()


def test_a_small_product_is_written_out_and_equals_the_library_s():
    left = torch.randn(5, 2, 3, dtype=torch.float64)
    right = torch.randn(5, 3, 4, dtype=torch.float64)
    assert torch.allclose(written_out(left, right), torch.bmm(left, right), atol=1e-14)


@pytest.mark.parametrize(("rows", "kept"), [(SMALL_PRODUCT // 64, False), (SMALL_PRODUCT, True)])
def test_only_a_large_product_is_left_to_the_library(rows, kept):
    table = {torch.ops.aten.bmm.default: written_out}
    graph = make_fx(torch.bmm, decomposition_table=table)(
        torch.zeros(20, rows, 8), torch.zeros(20, 8, 8)
    )
    targets = [node.target for node in graph.graph.nodes]
    assert (torch.ops.aten.bmm.default in targets) == kept


def test_a_product_of_few_runs_is_written_out_though_it_is_large():
    few = FEW_PRODUCTS // (2 * SMALL_PRODUCT)
    for runs, out in ((few, True), (few + 1, False)):
        made = written_out(torch.ones(runs, SMALL_PRODUCT // 32, 8), torch.ones(runs, 8, 8))
        assert (made is not NotImplemented) == out


@pytest.mark.parametrize(("rows", "here"), [(WRITTEN_OUT // 64, False), (SMALL_PRODUCT, True)])
def test_one_thread_multiplies_by_small_products_what_is_not_worth_writing_out(rows, here):
    graph = make_fx(multiplied_here, tracing_mode="fake")(
        torch.zeros(3, rows, 8), torch.zeros(3, 8, 8)
    )
    targets = [node.target for node in graph.graph.nodes]
    assert (torch.ops.neural_tdc.small_product.default in targets) == here
    assert torch.ops.aten.bmm.default not in targets


def test_a_program_that_calls_a_library_is_not_one_for_several_threads(monkeypatch):
    matrix, other = torch.ones(2, 20, 80, 80)
    assert compile_for_threads(lambda x, y: torch.bmm(x, y), matrix, other) is None
    monkeypatch.setattr(compilation, "SMALL_STATE", matrix.nbytes - 1)
    assert compile_for_threads(lambda x, y: x * y, matrix, other) is None


def test_what_was_compiled_for_threads_in_vain_is_not_compiled_again(monkeypatch):
    monkeypatch.setattr(compilation, "find_program", lambda key: (True, None))
    monkeypatch.setattr(compilation, "compiler", lambda: compiler()._replace(compile=None))
    assert compile_for_threads(lambda x, y: x * y, *torch.ones(2, 3)) is None


@pytest.mark.slow
def test_a_compiled_function_repeats_what_the_function_does():
    def function(carried, constant):
        matrix, count = carried
        (factor,) = constant["factors"]
        return torch.bmm(matrix, matrix).tanh() * factor, count + 1

    matrix = torch.randn(3, 2, 2, dtype=torch.float64)
    count = torch.zeros((), dtype=torch.int64)
    constant = {"factors": (torch.tensor(0.5, dtype=torch.float64),), "nothing": None}
    program = compile_repeatable(function, (matrix, count), constant)
    expected = (matrix, count)
    for _ in range(3):
        expected = function(expected, constant)
    result = program((matrix, count), constant, 3)
    assert torch.allclose(result[0], expected[0], atol=1e-14)
    assert int(result[1]) == 3
    assert program((matrix, count), constant, 0)[0] is matrix


@pytest.mark.slow
def test_compiled_draws_are_the_draws_and_their_words_are_stored():
    stream_keys, size = keys(5, 3, "draws"), torch.tensor(1000)

    def function(update, constant):
        return draw(*constant[:1], update[0, 0] + 1, 2, constant[1])

    first = torch.zeros(3, 2, dtype=torch.int64)
    graph = make_fx(lambda key: draw(key, first[0, 0], 2, size))(stream_keys)
    force_stride = compiler().force_stride
    store_mixed_words(graph, force_stride)
    targets = [node.target for node in graph.graph.nodes]
    xors = targets.count(torch.ops.aten.bitwise_xor.Tensor)
    assert xors > 0
    assert targets.count(force_stride) == xors
    assert torch.equal(graph(stream_keys), draw(stream_keys, first[0, 0], 2, size))
    program = compile_repeatable(function, first, (stream_keys, size))
    expected = function(function(first, (stream_keys, size)), (stream_keys, size))
    assert torch.equal(program(first, (stream_keys, size), 2), expected)


@pytest.mark.slow
def test_what_was_compiled_before_is_found_again(monkeypatch):
    # By torch's compiler, where the store of this library has no entry.
    monkeypatch.setattr(compilation, "find_program", lambda key: (False, None))
    # A number that no program had: whatever was compiled before, this one was not.
    factor = 1 + uuid.uuid4().int / 2**128

    def lookups():
        counters = torch._dynamo.utils.counters["inductor"]
        return [counters[f"fxgraph_cache_{what}"] for what in ("hit", "miss", "bypass")]

    def compiled():
        return compile_repeatable(
            lambda carried, constant: carried * factor + constant, carried, one
        )

    carried, one = torch.ones(2, 5, dtype=torch.float64), torch.ones(2, 5, dtype=torch.float64)
    hits, misses, bypasses = lookups()
    first = compiled()
    assert lookups() == [hits, misses + 1, bypasses]
    again = compiled()
    assert lookups() == [hits + 1, misses + 1, bypasses]
    for program in (first, again):
        expected = (carried * factor + one) * factor + one
        assert torch.allclose(program(carried, one, 2), expected, rtol=1e-14)


@pytest.mark.parametrize("spec", [None, "triton"])
def test_programs_for_a_gpu_need_triton_and_a_compiler_of_c(monkeypatch, spec):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(shutil, "which", {"gcc": "/usr/bin/gcc"}.get)
    assert not compiler_available(torch.device("cpu"))
    assert compiler_available(torch.device("cuda")) == bool(spec)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    assert not compiler_available(torch.device("cuda"))


@pytest.mark.parametrize("version", ["2.10.1+cpu", "1.13.0"])
def test_a_torch_that_is_too_old_is_refused_with_the_versions_that_work(monkeypatch, version):
    monkeypatch.setattr(torch, "__version__", version)
    message = rf"need torch 2\.11 to 2\.15, not {re.escape(version)} \(it is too old\)"
    with pytest.raises(RuntimeError, match=message):
        compile_repeatable(lambda carried, constant: carried, torch.ones(2), torch.ones(2))
    assert not compiler_available(torch.device("cuda"))


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ({"torch._inductor": None}, "torch._inductor"),
        ({"torch._inductor.inductor_prims": ModuleType("prims")}, "force_stride_order"),
    ],
)
def test_a_compiler_of_another_shape_is_refused_with_the_versions_that_work(
    monkeypatch, broken, named
):
    compiler()
    for name, module in broken.items():
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(RuntimeError, match=rf"need torch 2\.11 to 2\.15, not 2.*{named}"):
        compiler()


def test_a_function_is_compiled_once_for_each_set_of_shapes(monkeypatch):
    compiled_for = []

    def recorded(function, carried, constant):
        compiled_for.append((carried.shape, carried.dtype, constant))
        return lambda carried, constant, calls: function(carried, constant)

    monkeypatch.setattr(compilation, "compile_repeatable", recorded)
    double = compiled_at_first_call(lambda carried, constant: carried * constant)
    two, three = torch.ones(2), torch.ones(3, dtype=torch.float64)
    for carried, factor in ((two, 2), (two + 1, 2), (three, 2), (three, 2), (two, 3)):
        assert torch.equal(double(carried, factor), carried * factor)
    assert compiled_for == [
        (two.shape, torch.float32, 2),
        (three.shape, torch.float64, 2),
        (two.shape, torch.float32, 3),
    ]


@pytest.mark.slow
def test_compiled_learning_equals_eager_learning():
    # More updates than the streams of 50 are long, and a large batch: indices beyond the streams,
    # which a compiler may allow itself where integers overflow, would show.
    mdp, runs, double = problem("garnet-off-policy"), 3, torch.float64
    algorithm, state = prepare(RULES["tdrc"], None, mdp.features, runs=runs, seed=0)
    streams = simulate_streams(mdp, runs, 50, 0, dtype=double)
    seen = Experience(streams, mdp.features, torch.arange(runs), keys(0, runs))
    evaluator = chain_evaluator(chain(mdp), mdp.features, algorithm.features, algorithm.rule)
    sizes = torch.tensor([0.02, 1e9, 0.05], dtype=double)
    eager, compiled = (
        list(
            learn(
                algorithm,
                state,
                seen,
                StepSizes(sizes, 3 * sizes, 2 * sizes),
                schedule("general"),
                ReplaySampling(16),
                evaluator,
                steps=60,
                measured=[1, 21, 41, 60],
                limit=divergence_limit(state.parameters),
                compiled=compiled,
            )
        )[-1]
        for compiled in (False, True)
    )
    assert eager.diverged.tolist() == compiled.diverged.tolist() == [False, True, False]
    one, other = eager.state.parameters, compiled.state.parameters
    for ours, theirs in zip(tree_leaves(one), tree_leaves(other), strict=True):
        assert (ours - theirs)[[0, 2]].abs().max() < 1e-12
    assert (one.head - state.parameters.head)[[0, 2]].abs().min() > 1e-3
