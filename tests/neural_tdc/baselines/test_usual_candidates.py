"""Which candidates have usual settings, and the half of the weight that they get off-policy."""

import pytest
import torch

from neural_tdc import Transition
from neural_tdc.baselines.candidates import CandidateGroup, usual_candidates
from neural_tdc.baselines.learned_candidates import learn_candidates
from neural_tdc.best_value import choose_candidates


def group(family, *settings):
    return CandidateGroup(family, list(settings), [[]], torch.ones(1, len(settings), 1).double())


def of(decay, ridge, **more):
    return {"lambda": decay, "ridge": ridge, **more}


def test_usual_are_small_lambdas_and_ridges_with_limited_ratios_where_some_are():
    fitted = group("fitted", {"lambda": 0.5, "updates": 3})
    free = group("a", of(0.0, 1e-5), of(0.8, 1e-4), of(0.9, 1e-5), of(0.5, 1e-3))
    assert usual_candidates([fitted, free]).tolist() == [False, True, True, False, False]
    limited = group("b", of(0.5, 1e-5, trace_limit=1.0), of(1.0, 1e-5, trace_limit=1.0))
    assert usual_candidates([free, limited]).tolist() == [False] * 4 + [True, False]


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_off_policy_half_of_the_weight_is_shared_by_the_usual_candidates(ratio):
    # Two states in turn, left with probability 0.2; ratios of which the mean is 1, or all 1.
    source = torch.Generator().manual_seed(3)
    ends = torch.rand(400, generator=source, dtype=torch.float64) < 0.2
    state = (torch.arange(400) % 2).double()
    odd = torch.rand(400, generator=source, dtype=torch.float64) < 0.5
    stream = Transition(
        state[:, None],
        state + torch.randn(400, generator=source, dtype=torch.float64),
        0.9 * (~ends).double(),
        1 - state[:, None],
        torch.where(odd, ratio, 2 - ratio),
        torch.cat([torch.ones(1), ends[:-1].double()]).double(),
    )
    candidates = learn_candidates(stream, 2, 0, 6, 0)
    weights = choose_candidates(candidates).weights
    assert weights.sum() == pytest.approx(1)
    usual = usual_candidates(candidates.groups)
    if ratio == 1:
        assert weights[weights > 0].unique().numel() == 1
    else:
        assert weights[usual].min() >= 0.5 / float(usual.sum()) - 1e-12
        assert weights[usual].sum() >= 0.5
