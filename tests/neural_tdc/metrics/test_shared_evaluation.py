"""Threads that share the runs of a population measure what one thread measures."""

import threading

import torch

from neural_tdc.metrics.evaluators import sample_evaluator
from neural_tdc.metrics.samples import in_rows
from neural_tdc.networks.bodies import initial_bodies, mlp
from neural_tdc.networks.feature_map import feature_map
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters, Transition

F64 = torch.float64
RUNS, FEATURE, SAMPLES = 7, 3, 20_000


def test_threads_share_the_runs_and_do_not_meet_in_the_module():
    g = torch.Generator().manual_seed(0)
    observation = torch.randn(SAMPLES + 1, 4, generator=g, dtype=F64)
    ones = torch.ones(SAMPLES, dtype=F64)
    sample = in_rows(Transition(observation[:-1], ones, 0.9 * ones, observation[1:], ones))
    module, bodies = initial_bodies(lambda shape: mlp(shape, FEATURE, (16,)), (4,), 0, RUNS)
    body = {name: tensor.double() for name, tensor in bodies.items()}
    parameters = Parameters(body, torch.randn(RUNS, FEATURE, generator=g, dtype=F64), {})
    features, before, seen = feature_map(module), torch.get_num_threads(), set()

    def watched(body, observation):
        seen.add((threading.get_ident(), torch.get_num_threads()))
        return features(body, observation)

    one, three = (
        sample_evaluator(sample, None, watched, RULES["td"], threads) for threads in (None, 3)
    )
    expected = one(parameters)
    seen.clear()
    found = three(parameters)
    assert len(seen) == 3
    assert {threads for _, threads in seen} == {1}
    assert torch.get_num_threads() == before
    # Which thread comes when is chance: several times.
    for values in (found, *(three(parameters) for _ in range(4))):
        assert values.keys() == expected.keys()
        for name, value in values.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-12)
