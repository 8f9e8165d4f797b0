"""Rules composed from bodies and heads: their auxiliary vectors, settings and names."""

import pytest
import torch

from neural_tdc.rules.bodies import MspbeBody
from neural_tdc.rules.heads import TdcHead
from neural_tdc.rules.registry import RULES
from tests.neural_tdc.rules.rule_problem import (
    FEATURE,
    flat,
    problem,
)


def test_ridge_adds_its_gradient_to_the_head():
    features, parameters, batch = problem()
    plain = RULES["tdc"].directions(features, parameters, batch)
    ridged = RULES["tdc"].with_settings(ridge=0.25).directions(features, parameters, batch)
    assert torch.allclose(ridged.head, plain.head + 0.25 * parameters.head, atol=1e-14)


def test_a_body_gets_the_auxiliary_that_its_head_does_not_keep():
    kept = {
        name: RULES[name].auxiliaries
        for name in ["tdc", "td", "mspbe+td", "mspbe+tdrc", "corrected+tdrc", "mspbe+htd"]
    }
    assert kept == {
        "tdc": ("tdc",),
        "td": (),
        "mspbe+td": ("tdc",),
        "mspbe+tdrc": ("tdrc", "tdc"),
        "corrected+tdrc": ("tdrc",),
        "mspbe+htd": ("htd", "tdc"),
    }


def test_two_auxiliary_vectors_do_not_mix():
    features, parameters, batch = problem()
    g = torch.Generator().manual_seed(4)
    htd = torch.randn(FEATURE, generator=g, dtype=torch.float64)
    tdc = torch.randn(FEATURE, generator=g, dtype=torch.float64)
    parameters = parameters._replace(auxiliary={"htd": htd, "tdc": tdc})
    both = RULES["mspbe+htd"].directions(features, parameters, batch)
    as_htd = RULES["htd"].directions(features, parameters, batch)
    as_tdc = RULES["tdc"].directions(features, parameters, batch)
    assert torch.allclose(both.head, as_htd.head, atol=1e-14)
    separate = {**as_htd.auxiliary, **as_tdc.auxiliary}
    assert both.auxiliary.keys() == separate.keys() == {"htd", "tdc"}
    assert all(torch.allclose(both.auxiliary[n], separate[n], atol=1e-14) for n in separate)
    assert torch.allclose(flat(both.body), flat(as_tdc.body), atol=1e-14)


def test_generalized_body_under_a_tdc_head_keeps_both_vectors_and_finds_omega():
    rule = RULES["generalized+tdc"].with_settings(psi_width=9)
    features, parameters, batch = problem()
    parameters, state = rule.init(parameters, batch.observation, torch.Generator().manual_seed(0))
    shapes = {name: tuple(vector.shape) for name, vector in parameters.auxiliary.items()}
    assert shapes == {"tdc": (FEATURE,), "generalized": (9,)}
    vectors = {"tdc": torch.arange(4).double(), "generalized": torch.ones(9).double()}
    omega, regulariser = rule.omega(parameters._replace(auxiliary=vectors))
    assert omega.tolist() == [0, 1, 2, 3]
    assert regulariser == 0
    directions = rule.directions(features, parameters, batch, state)
    assert {name: tuple(each.shape) for name, each in directions.auxiliary.items()} == shapes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tcd", "did you mean"),
        ("TD", "did you mean td"),
        ("mspb+tdc", "did you mean mspbe"),
        ("mspbe+tcd", "did you mean"),
        ("mspbe+etd", "goes with the bodies semi_gradient and frozen only"),
        ("corrected+vtrace", "reweighs every sample"),
        ("nothing-like-it", "is not one of tdc, td, gtd2"),
    ],
)
def test_an_unknown_or_illegal_rule_is_refused_in_one_line(name, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refusal:
        RULES[name]
    assert message in str(refusal.value)


def test_the_registry_has_the_promised_names():
    promised = "tdc td gtd2 tdrc htd vtrace etd residual generalized ttn"
    assert set(RULES) == {*promised.split(), "nonlinear-tdc", "nonlinear-gtd2", "fqe"}
    assert (RULES["tdc"].body, RULES["tdc"].head) == (MspbeBody(), TdcHead())


def test_given_features_freeze_the_body():
    features, parameters, batch = problem()
    phi = batch._replace(
        observation=features(parameters.body, batch.observation),
        next_observation=features(parameters.body, batch.next_observation),
    )
    given = parameters._replace(body={})
    frozen = RULES["tdc"].with_given_features().directions(lambda _, x: x, given, phi)
    learned = RULES["tdc"].directions(features, parameters, batch)
    assert frozen.body == {}
    assert torch.allclose(frozen.head, learned.head, atol=1e-15)
