"""The standard problems, against numbers that are known for them."""

import pytest
import torch

from envs.finite.finite_mdp import chain
from envs.finite.standard_problems import (
    FINITE_PROBLEMS,
    baird,
    boyan,
    garnet,
    problem,
    random_walk_dependent,
    random_walk_inverted,
    random_walk_tabular,
)

F64 = torch.float64


def close(found, expected, tolerance):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=F64), atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", FINITE_PROBLEMS)
def test_the_td_fixed_point_has_no_projected_error(name):
    mdp = FINITE_PROBLEMS[name]()
    exact = chain(mdp)
    singular = torch.linalg.svdvals(exact.moments(mdp.features).A)
    assert (singular[-1] < 1e-10 * singular[0]) == (name == "baird")
    if name != "baird":
        fixed_point = exact.td_fixed_point(mdp.features)
        assert exact.mspbe(mdp.features, fixed_point).sqrt() < 1e-12
        # Kolter's A is nearly 0, so that it tells heads apart badly: that is its point.
        least = 1e-6 if name == "kolter" else 1e-3
        assert exact.mspbe(mdp.features, fixed_point + 0.1).sqrt() > least


@pytest.mark.parametrize("name", FINITE_PROBLEMS)
def test_a_problem_is_found_under_its_name_and_fits_the_learner(name):
    mdp = problem(name)
    assert mdp.name.startswith(name)
    assert mdp.width == len(mdp.start) // 2
    assert len(mdp.observation) == len(mdp.features) == len(mdp.start)
    assert (chain(mdp).weighting > 0).all()
    # A neural body must be able to tell the states apart.
    assert len(mdp.observation.unique(dim=0)) == len(mdp.start)


@pytest.mark.parametrize("make", [random_walk_tabular, random_walk_dependent, random_walk_inverted])
def test_random_walk_has_the_known_value_and_weighting(make):
    exact = chain(make())
    close(exact.value(), [-0.2692, 0.2180, 0.5429, 0.7594, 0.9038], 5e-5)
    close(exact.weighting * 9, [1.0, 2, 3, 2, 1], 1e-12)
    close(exact.reward, [-0.4, 0, 0, 0, 0.6], 1e-15)
    assert make().steps == 3_000


def test_random_walk_features():
    close(random_walk_tabular().features, torch.eye(5).tolist(), 0)
    close(random_walk_inverted().features, (0.5 * (1 - torch.eye(5))).tolist(), 1e-15)
    a, b = 2**-0.5, 3**-0.5
    rows = [[1.0, 0, 0], [a, a, 0], [b, b, b], [0, a, a], [0, 0, 1]]
    close(random_walk_dependent().features, rows, 1e-15)


def test_boyan_has_the_known_value_weighting_and_error():
    mdp = boyan()
    exact = chain(mdp)
    assert exact.value()[0] == pytest.approx(-24.667, abs=5e-4)
    weighting = [0.1169, 0.0584, 0.0877, 0.0731, 0.0804, 0.0767]
    weighting += [0.0785, 0.0776, 0.0781, 0.0778, 0.0780, 0.1169]
    close(exact.weighting, weighting, 5e-5)
    assert exact.lstd_rmsve(mdp.features) == pytest.approx(0.196, abs=5e-4)
    assert torch.equal(mdp.target, mdp.behaviour)


def test_boyan_features_are_interpolated_between_the_anchors():
    features = boyan().features
    close(features[0], [1.0, 0, 0, 0], 0)
    close(features[1], [0.75, 0.25, 0, 0], 0)
    close(features[8], [0.0, 0, 1, 0], 0)
    close(features[11], [0.0, 0, 0.25, 0.75], 0)


def test_boyan_goes_one_or_two_on():
    mdp = boyan()
    assert mdp.transition[9, 0].nonzero().flatten().tolist() == [10, 11]
    assert mdp.transition[10, 0, 11] == 1
    assert mdp.termination[:, 0].tolist() == [0.0] * 11 + [1.0]
    close(chain(mdp).reward, [-3.0] * 11 + [-2.0], 0)


def test_baird_starts_from_the_known_error():
    mdp = baird()
    exact = chain(mdp)
    close(exact.weighting, [1 / 7] * 7, 1e-15)
    close(mdp.features @ mdp.initial_head, [3.0] * 6 + [12.0], 0)
    assert exact.mspbe(mdp.features, mdp.initial_head).sqrt() == pytest.approx(8.2214, abs=5e-5)
    close(exact.value(), [0.0] * 7, 0)
    assert mdp.start.tolist() == [0.0] * 6 + [1.0]
    assert mdp.steps == 20_000


def test_baird_has_matrices_of_rank_seven():
    mdp = baird()
    A, _, C = chain(mdp).moments(mdp.features)
    assert torch.linalg.matrix_rank(A) == torch.linalg.matrix_rank(C) == 7
    assert mdp.features.shape == (7, 8)


def test_garnet_has_the_branches_and_features_that_were_asked_for():
    mdp = garnet(states=9, actions=2, branching=4, seed=6, feature_count=5, active_features=2)
    assert ((mdp.transition > 0).sum(-1) == 4).all()
    assert (mdp.features.sum(1) == 2).all()
    assert len(mdp.features.unique(dim=0)) == 9
    assert mdp.features.shape == (9, 5)


def test_garnet_repeats_features_only_where_there_are_too_few():
    mdp = garnet(states=9, feature_count=3, active_features=2)
    assert (mdp.features.sum(1) == 2).all()


def test_garnet_depends_on_its_seed():
    assert torch.equal(garnet(seed=3).transition, problem("garnet-3").transition)
    assert not torch.equal(garnet(seed=3).transition, garnet(seed=4).transition)


def test_the_off_policy_garnet_is_the_same_problem_under_a_uniform_behaviour():
    on, off = problem("garnet-3"), problem("garnet-off-policy-3")
    assert torch.equal(on.target, off.target)
    assert torch.equal(on.transition, off.transition)
    assert torch.equal(on.behaviour, on.target)
    assert (off.behaviour == 0.25).all()
    assert off.name == "garnet-off-policy-3"
    assert not torch.allclose(chain(on).weighting, chain(off).weighting)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"branching": 40}, "branching is 40, but must lie between 1 and 30"),
        ({"branching": 0}, "branching is 0"),
        ({"active_features": 9}, "active_features is 9, but must lie between 1 and 8"),
    ],
)
def test_an_impossible_garnet_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        garnet(**changes)


def test_an_unknown_problem_is_refused_with_the_nearest_names():
    with pytest.raises(ValueError, match="'random-walk-tabula': did you mean random-walk-tabular"):
        problem("random-walk-tabula")
    with pytest.raises(ValueError, match=r"known: random-walk-tabular, .*, boyan, baird"):
        problem("zzz")
    with pytest.raises(ValueError, match="no problem named 'boyan-3'"):
        problem("boyan-3")
