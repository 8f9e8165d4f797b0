"""Every named rule becomes Triton kernels that assemble; needs torch with CUDA, but no GPU.

Where torch is built without CUDA these tests are skipped.
"""

import importlib.util
import re

import pytest
import torch

from neural_tdc.rules.registry import RULES
from tests.neural_tdc.compiled.triton_lowering import assembled, generated, kernels
from tests.neural_tdc.learning.test_kernel_starts import problem

pytestmark = [
    pytest.mark.triton,
    pytest.mark.slow,
    pytest.mark.skipif(
        torch.version.cuda is None or importlib.util.find_spec("triton") is None,
        reason="needs a build of torch with CUDA and Triton; it needs no GPU",
    ),
]
# Kernels of an update at batch 1 with plain steps, each started once; without library calls.
KERNELS = {"td": 8, "tdc": 12, "tdrc": 12}
LIBRARY_CALL = re.compile(r"(?:extern_kernels\.|torch\.ops\.)(?!inductor)[\w.]+\(")
# Each rule once, with optimisers and batches in turns.
CASES = [
    (name, ("sgd", "rmsprop", "adam")[number % 3], (1, 32)[number % 2])
    for number, name in enumerate(RULES)
]
# Triton 3.6 could not assemble it where values that several loops read are stored.
CASES.append(("etd", "rmsprop", 1))


def body_of(source):
    """Return the source of the call alone, without that of its kernels."""
    return source[source.index("def call(") :]


@pytest.mark.parametrize(("name", "bound"), KERNELS.items())
def test_an_update_is_few_kernels_and_no_library_call(name, bound):
    source = generated(*problem(name))
    assert len(re.findall(r"\.run\(", body_of(source))) <= bound
    assert LIBRARY_CALL.findall(body_of(source)) == []
    assert "fp64" not in source
    assembled(source)


@pytest.mark.parametrize(("name", "optimizer", "batch"), CASES)
def test_every_named_rule_assembles(name, optimizer, batch):
    ordered = RULES[name].ordered
    source = generated(*problem(name, optimizer, batch=1 if ordered else batch))
    assert kernels(source)
    assembled(source)
