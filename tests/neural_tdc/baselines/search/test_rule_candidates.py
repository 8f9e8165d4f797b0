import torch

from neural_tdc import Transition
from neural_tdc.baselines.candidates import Folds, group_values
from neural_tdc.baselines.search import rule_candidates
from neural_tdc.baselines.search.rule_candidates import rule_groups


def part(time, seed):
    """Return a stream of a chain that alternates by chance; reward is the state, γ = 0.5."""
    source = torch.Generator().manual_seed(seed)
    state = (torch.rand(time + 1, 1, generator=source, dtype=torch.float64) < 0.5).double() * 2 - 1
    first = torch.zeros(time, dtype=torch.float64)
    first[0] = 1
    ones = torch.ones(time, dtype=torch.float64)
    return Transition(state[:-1], state[:-1, 0], 0.5 * ones, state[1:], ones, first)


def test_rules_learn_the_values_of_a_chain_on_every_fold():
    # v(s) = s, since the next state is as often −1 as 1.
    folds = Folds([part(200, 1), part(230, 2), part(210, 3)], [[1, 2], [0, 2], [0, 1]])
    groups = list(rule_groups(folds, ["td", "tdc"], updates=150, seed=0))
    assert [group.family for group in groups] == ["td"] * 4 + ["tdc"] * 4
    named = [tuple(group.settings[0].values()) for group in groups[:4]]
    assert named == [(0.0, 1.0), (0.0, 10.0), (0.9, 1.0), (0.9, 10.0)]
    states = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    for group in groups:
        assert group.head.shape == (3, 1, 65)
        for fold in range(3):
            values = group_values(group, fold, states)[:, 0]
            # TDC is slower here: its auxiliary vector has to be learned first.
            largest = 0.45 if group.family == "td" else 2
            assert (values - states[:, 0]).abs().max() < largest, (group.family, group.settings)
            assert values.abs().max() > 0.1


def test_a_fold_does_not_see_its_own_part(monkeypatch):
    monkeypatch.setattr(rule_candidates, "RULE_DECAYS", (0.9,))
    parts = [part(100, seed) for seed in (1, 2, 3)]
    other = [*parts[:2], parts[2]._replace(reward=parts[2].reward + 1e3)]
    learned = [[1, 2], [0, 2], [0, 1]]
    found, again = (
        next(rule_groups(Folds(each, learned), ["td"], updates=5, seed=0))
        for each in (parts, other)
    )
    assert torch.equal(found.head[2], again.head[2])
    assert not torch.equal(found.head[0], again.head[0])


def test_diverged_runs_have_no_values(monkeypatch):
    monkeypatch.setattr(rule_candidates, "BODY_STEP", 1e7)
    monkeypatch.setattr(rule_candidates, "RULE_DECAYS", (0.0,))
    folds = Folds([part(60, 1), part(60, 2)], [[1], [0]])
    group = next(rule_groups(folds, ["td"], updates=3, seed=0))
    assert not group.head[..., :-1].isfinite().any()
