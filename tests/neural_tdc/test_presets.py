"""Presets of the library: keywords of `evaluate`."""

import inspect

import pytest
from torch import nn

from neural_tdc import evaluate
from neural_tdc.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_table_of_ones_own_of_keywords_of_evaluate(name):
    keywords = preset(name)
    assert set(keywords) <= set(inspect.signature(evaluate).parameters)
    keywords["rule"] = "another"
    assert preset(name)["rule"] in ("td", "tdrc", "tdc")


def test_the_body_of_a_preset_has_64_hidden_units_and_a_constant_feature():
    first, _, second, *_, constant = preset("accurate")["body"]((3,))
    assert (first.in_features, first.out_features, second.out_features) == (3, 64, 15)
    assert not isinstance(constant, nn.Tanh)
    assert "body" not in preset("on-policy")


def test_another_name_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="preset 'best' is not one of fast, accurate, off-policy"):
        preset("best")
