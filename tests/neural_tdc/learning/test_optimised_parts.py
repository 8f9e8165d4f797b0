"""An optimiser is idle where it was given to a part that takes no steps with any rule."""

import pytest

from neural_tdc.learning.optimised_parts import idle_optimizers, optimized_parts
from neural_tdc.rules.registry import RULES


@pytest.mark.parametrize(
    ("name", "given", "parts"),
    [
        ("tdc", False, (True, True, True)),
        ("td", False, (True, True, False)),
        ("td", True, (False, True, False)),
        ("semi_gradient+lstd", False, (True, False, False)),
    ],
)
def test_parts_that_take_steps_are_those_that_learn_and_are_not_assigned(name, given, parts):
    assert optimized_parts(RULES[name], given_features=given) == parts


@pytest.mark.parametrize(
    ("names", "rules", "idle"),
    [
        (("sgd", "sgd", "adam"), ["td"], ["auxiliary"]),
        (("sgd", "sgd", "adam"), ["td", "tdc"], []),
        (("adam", "adam", "adam"), ["td"], []),
        (("sgd", "rmsprop", "adam"), ["semi_gradient+lstd"], ["head", "auxiliary"]),
        (("adam", "adam", "adam"), ["frozen+lstd"], ["body", "head", "auxiliary"]),
        (("sgd", "sgd", "sgd"), ["frozen+lstd"], []),
    ],
)
def test_one_optimizer_for_all_parts_is_for_those_that_there_are(names, rules, idle):
    learning = [optimized_parts(RULES[name], given_features=False) for name in rules]
    assert idle_optimizers(names, "sgd", learning) == idle
