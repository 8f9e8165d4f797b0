"""The sets of step sizes that a study tries: of every rule, and of its controls."""

import math
from typing import NamedTuple

from experiments.sweep.settings.grids import grid
from experiments.sweep.settings.sweep_settings import FROZEN_BODY, SweepSettings
from neural_tdc.rules.registry import RULES


class Configuration(NamedTuple):
    """One set of step sizes of a rule.

    ratio:           β/α; infinite where the head is solved, NaN where no body learns
    auxiliary_ratio: η/β; NaN where no auxiliary vector is kept
    """

    ratio: float
    auxiliary_ratio: float
    body_step: float
    head_step: float
    auxiliary_step: float


def solved(rule: str) -> str | None:
    """Return the name of a rule's body under an LSTD head, None where there is no such rule."""
    return None if ":" in rule else RULES[rule].under_best_response


def with_auxiliary(rule: str) -> bool:
    """Return whether a rule keeps an auxiliary vector; one of the user's own may."""
    return ":" in rule or bool(RULES[rule].auxiliaries)


def learning_body(rule: str, settings: SweepSettings) -> bool:
    """Return whether the body learns by a rule in this study; by one of the user's own it may."""
    return settings.features == "neural" and (":" in rule or RULES[rule].learns_body)


def _auxiliary_ratios(rule: str, settings: SweepSettings) -> list[float]:
    if not with_auxiliary(rule):
        return [math.nan]
    return grid("--auxiliary-ratios", settings.auxiliary_ratios)


def _with_still_bodies(rule: str, settings: SweepSettings) -> list[Configuration]:
    """Return the configurations of a rule whose body does not learn, over the head's steps."""
    steps = grid("--head-steps", settings.head_steps)
    return [
        Configuration(math.nan, eta, 0.0, beta, beta * (1.0 if math.isnan(eta) else eta))
        for eta in _auxiliary_ratios(rule, settings)
        for beta in steps
    ]


def frozen_rule(settings: SweepSettings) -> str | None:
    """Return the rule that the control `frozen` freezes; None where there is none to freeze.

    It is the baseline, or the first rule where that has no body that learns or no head that steps.
    """
    if FROZEN_BODY not in settings.controls:
        return None
    first = settings.baseline or settings.rule[0]
    several = (first, *settings.rule)
    freezable = (rule for rule in several if learning_body(rule, settings) and rule != solved(rule))
    return next(freezable, None)


def control_configurations(settings: SweepSettings) -> list[tuple[str, str, list[Configuration]]]:
    """Return (name, what learns, configurations) of every control of a study."""
    found = []
    for name in settings.controls:
        if name != FROZEN_BODY:
            found.append((name, name, [Configuration(math.nan, math.nan, 0.0, 0.0, 0.0)]))
        elif (rule := frozen_rule(settings)) is not None:
            found.append((FROZEN_BODY, rule, _with_still_bodies(rule, settings)))
    return found


def configurations(
    rule: str, settings: SweepSettings
) -> tuple[dict[str, list[Configuration]], list[str]]:
    """Return {what learns: configurations} of a rule, and a line for all that had to be left out.

    Raises UsageError for a grid that is empty or has a value twice.
    """
    auxiliary = _auxiliary_ratios(rule, settings)
    if not learning_body(rule, settings):
        return {rule: _with_still_bodies(rule, settings)}, []
    body_steps = grid("--body-steps", settings.body_steps)
    ratios = grid("--ratios", settings.ratios, infinite=True)
    finite = [ratio for ratio in ratios if ratio != math.inf]
    best_response = solved(rule)
    dropped = []
    if rule == best_response:
        ratios = [math.inf]
    elif math.inf in ratios and best_response is None:
        dropped = [f"{rule}: ratio inf left out, its head is not one that can be solved"]
        ratios = finite
    result: dict[str, list[Configuration]] = {}
    for ratio in ratios:
        learned = rule if ratio != math.inf else best_response or rule
        etas = auxiliary if with_auxiliary(learned) else [math.nan]
        # What a solved head's auxiliary vector goes by.
        factor = ratio if ratio != math.inf else max(finite, default=1.0)
        for eta in etas:
            for alpha in body_steps:
                beta = alpha * factor
                moved = beta * (1.0 if math.isnan(eta) else eta)
                head = 1.0 if ratio == math.inf else beta
                result.setdefault(learned, []).append(Configuration(ratio, eta, alpha, head, moved))
    return result, dropped
