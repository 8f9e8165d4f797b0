"""From a rule's name and flags to the rule, or to the method of that name."""

from typing import Any

from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.evaluate_policy.settings.method_settings import with_flags
from experiments.runs.command_line.checks import UsageError, load_part, named
from experiments.runs.command_line.settings import changed
from neural_tdc.baselines.method import Method
from neural_tdc.baselines.methods import rule_or_method
from neural_tdc.learning.sampling import in_segments
from neural_tdc.rules.rule import Rule


def rule_of(name: str, settings: EvaluationSettings) -> Any:
    """Return a rule or a method with its settings; UsageError for what it does not take."""
    decay = settings.lambda_
    chosen = {
        "epsilon": settings.epsilon,
        "ridge": settings.ridge,
        "psi": settings.psi,
        "psi_width": settings.psi_width,
        "lstd_window": settings.lstd_window,
        "lstd_epsilon": settings.lstd_epsilon,
        "target_period": settings.target_period,
    }
    if ":" in name:
        if decay:
            raise UsageError(
                f"--lambda {decay:g} is not defined for --rule {name}: a rule of your own must "
                "keep its own traces"
            )
        make = load_part(name, "--rule")
        with named(f"--rule {name}"):
            rule = make()
        if isinstance(rule, Method):
            return with_flags(rule, settings)
        if not isinstance(rule, Rule):
            raise UsageError(
                f"--rule {name} returned a {type(rule).__name__}; it must return a neural_tdc.Rule"
            )
        # What was not given stays as the rule's author has set it.
        given = {name for name in chosen.keys() & rule.settings if changed(settings, name)}
        return rule.with_settings(**{name: chosen[name] for name in given})
    try:
        rule = rule_or_method(name)
    except ValueError as error:
        raise UsageError(f"--rule: {error}") from None
    if isinstance(rule, Method):
        return with_flags(rule, settings)
    if not rule.settings:
        for flag, value in (
            ("--epsilon", settings.epsilon),
            ("--ridge", settings.ridge),
            ("--lambda", decay),
        ):
            if value:
                raise UsageError(
                    f"{flag} {value:g} is not defined for --rule {name}: leave it at 0"
                )
        return rule
    taken = {setting: value for setting, value in chosen.items() if setting in rule.settings}
    with named(f"--lambda {decay:g} with --rule {name}"):
        if in_segments(settings.scheme):
            rule = rule.with_lambda_returns(decay)
        elif decay:
            rule = rule.with_settings(trace_decay=decay)
    return rule.with_settings(**taken)
