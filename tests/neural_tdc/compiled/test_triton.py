"""Every named rule becomes Triton kernels that assemble; needs torch with CUDA, but no GPU.

Where torch is built without CUDA these tests are skipped.
"""

import importlib.util
import itertools
import re

import pytest
import torch

from neural_tdc.networks.mlp_population import CROSS_ENTROPY, SQUARED, initial_networks
from neural_tdc.randomness import keys
from neural_tdc.rules.registry import RULES
from neural_tdc.stackelberg import supervised
from tests.neural_tdc.compiled.triton_lowering import assembled, generated, kernels
from tests.neural_tdc.learning.test_kernel_starts import problem
from tests.neural_tdc.stackelberg.test_supervised import ADAM, RMSPROP, SEEDS, learning, samples

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
OPTIMIZERS, BATCHES = ("sgd", "rmsprop", "adam"), (1, 32)
# Emphatic TD learns from one transition at a time.
CASES = [
    (name, optimizer, batch)
    for name, optimizer, batch in itertools.product(RULES, OPTIMIZERS, BATCHES)
    if batch == 1 or not RULES[name].ordered
]
# In every run each rule once, with optimisers and batches in turns, and what Triton 3.6 could not
# assemble where values that several loops read are stored; the rest by `make triton`.
OFTEN = {
    ("etd", "rmsprop", 1),
    *(
        (name, OPTIMIZERS[number % 3], 1 if RULES[name].ordered else BATCHES[number % 2])
        for number, name in enumerate(RULES)
    ),
}


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


@pytest.mark.parametrize(
    ("name", "optimizer", "batch"),
    [pytest.param(*case, marks=() if case in OFTEN else pytest.mark.thorough) for case in CASES],
)
def test_every_named_rule_assembles(name, optimizer, batch):
    source = generated(*problem(name, optimizer, batch=batch))
    assert kernels(source)
    assembled(source)


@pytest.mark.parametrize(
    ("loss", "arms", "optimizer"),
    [
        (SQUARED, ("split", "body-rate", "limit"), ADAM),
        (CROSS_ENTROPY, ("split", *supervised.AUTOMATIC_ARMS), RMSPROP),
    ],
    ids=["squared", "cross-entropy"],
)
def test_arms_of_supervised_learning_assemble(monkeypatch, loss, arms, optimizer):
    made = []
    monkeypatch.setattr(supervised, "device_updates", lambda *update, **_: made.append(update))
    chosen, drawn = learning(loss, arms, optimizer), samples(loss, 5)
    networks = initial_networks((4, 6, 5), 0, SEEDS, torch.float32)
    state = supervised.initial_supervised_state(chosen, networks)
    drawn = drawn._replace(inputs=drawn.inputs.float())
    if loss is SQUARED:
        drawn = drawn._replace(target=drawn.target.float())
    supervised.supervised_updates(chosen, drawn, keys(0, SEEDS), state, compiled=False)
    source = generated(*made[0])
    assert kernels(source)
    assembled(source)
