"""Which rules can learn as asked, and which settings of policy evaluation have no effect."""

from collections.abc import Mapping
from typing import Any

from experiments.evaluate_policy.settings.evaluation_settings import (
    AUTO,
    FOR_AUTO,
    EvaluationSettings,
)
from experiments.evaluate_policy.settings.method_settings import FOR_METHODS, idle_method_settings
from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.settings import Idle, changed, setting_fields
from neural_tdc.baselines.method import Method
from neural_tdc.learning.optimised_parts import (
    OptimizedParts,
    idle_optimizers,
    optimized_parts,
)
from neural_tdc.learning.sampling import follows_stream, scheme_options

# What only the body `mlp` takes, and what only an estimated truth needs.
OF_MLP = ("hidden", "activation", "constant_feature", "layer_norm")
OF_TRUTH = ("truth_states", "truth_rollouts", "held_out")


def check_rules(settings: EvaluationSettings, rules: Mapping[str, Any]) -> None:
    """Raise UsageError for a rule that cannot learn in the way that was asked for.

    rules: {name as given: rule}
    """
    for name, rule in rules.items():
        if rule.ordered and not follows_stream(settings.scheme):
            raise UsageError(
                f"--rule {name} keeps a trace along an ordered stream: it needs --sampling "
                f"markov and --batch 1, not {settings.sampling} and {settings.batch}"
            )
        if settings.values == "q":
            try:
                rule.with_action_values()
            except ValueError as error:
                raise UsageError(f"--rule {name} --values q: {error}") from None
        if settings.features == "given":
            try:
                rule.with_given_features()
            except ValueError:
                raise UsageError(
                    f"--rule {name} learns a body: it needs --features neural"
                ) from None


def idle_settings(
    settings: EvaluationSettings,
    rules: Mapping[str, Any],
    methods: Mapping[str, Method],
    finite: bool,
    weighted: bool = False,
) -> list[Idle]:
    """Return the settings that change nothing on this problem or for any of the rules.

    rules: {name as given: rule}, without auto; rules of the user's own have settings of their own
    methods: {name as given: method}
    finite: whether the problem's errors are exact
    weighted: whether a log's transitions have importance ratios
    """
    alone, auto = not rules, AUTO in settings.rule
    named = " ".join(settings.rule)
    kept = FOR_AUTO | (FOR_METHODS if methods else set())
    others = [name for name in setting_fields(type(settings)) if name not in kept]
    chosen = "with --rule " + " ".join(rules)
    taken = {setting for rule in rules.values() for setting in rule.settings}
    data = settings.data is not None
    rows = (
        (alone, others, f"with --rule {named}, only with learning rules"),
        (alone and data, ("steps",), f"with --data and --rule {named}: all of it is learned from"),
        (not auto, ("budget",), f"with --rule {named}, only with auto"),
        (settings.features == "given", ("body", "width", *OF_MLP), "with --features given"),
        (settings.body != "mlp", OF_MLP, f"with --body {settings.body}, only with mlp"),
        (
            data and settings.policy is None,
            ("behaviour",),
            "with --data without --policy: no ratio is computed",
        ),
        (
            data and settings.values == "q" and not settings.lambda_,
            ("behaviour",),
            "with --data and --values q without --lambda: no ratio is used",
        ),
        (
            data,
            OF_TRUTH,
            "with --data: no truth is known; --held-out-fraction of it measures errors",
        ),
        (not data, ("columns", "cumulant", "held_out_fraction"), "without --data"),
        (data and not weighted, ("ratio_limit",), "without --policy: all ratios are 1"),
        (finite, ("ratio_limit",), f"on {settings.problem}: its ratios are used as they are"),
        (
            not data and settings.behaviour is None,
            ("ratio_limit",),
            "without --behaviour: all ratios are 1",
        ),
        (finite, OF_TRUTH, f"on {settings.problem}: the errors of finite problems are exact"),
        (finite, ("value_dimensions",), "on finite problems: V is drawn over the states"),
        (settings.truth_states == 0, ("truth_rollouts",), "with --truth-states 0"),
        (
            settings.values == "q" and not settings.lambda_,
            ("ratio_limit",),
            "with --values q without --lambda: no ratio is used",
        ),
        ("target_period" not in taken, ("target_period",), f"{chosen}, only with fqe"),
        ("psi" not in taken, ("psi", "psi_width"), f"{chosen}, only with generalized"),
        (settings.psi == "observation", ("psi_width",), "with --psi observation"),
        (
            "lstd_window" not in taken,
            ("lstd_window", "lstd_epsilon"),
            f"{chosen}, only with an lstd head",
        ),
        (
            "epsilon" not in taken,
            ("epsilon",),
            f"{chosen}: it is for vectors that estimate C⁻¹E[ρδφ]",
        ),
        ("ridge" not in taken, ("ridge",), chosen),
        (
            bool(rules) and not any(map(any, _optimized(settings, rules))),
            ("max_grad_norm",),
            f"{chosen}: an lstd head is assigned, and nothing else learns",
        ),
        (settings.average == "none", ("average_after",), "without --average"),
    )
    idle = [Idle(names, why) for holds, names, why in rows if holds]
    idle += _idle_optimizers(settings, rules)
    idle += idle_method_settings(settings, methods, auto=auto)
    for option, schemes in scheme_options().items():
        if settings.sampling not in schemes:
            why = f"with --sampling {settings.sampling}, only with {' or '.join(schemes)}"
            idle.append(Idle((option,), why))
    return idle


def check_average(settings: EvaluationSettings, steps: int) -> None:
    """Raise UsageError where the mean over the updates would leave out all of them."""
    if settings.average != "none" and settings.average_after >= steps:
        raise UsageError(
            f"--average-after {settings.average_after} leaves out all {steps} updates of a run; "
            f"give at most {steps - 1}, or more --steps"
        )


def _optimized(settings: EvaluationSettings, rules: Mapping[str, Any]) -> list[OptimizedParts]:
    given = settings.features == "given"
    return [optimized_parts(rule, given_features=given) for rule in rules.values()]


def _idle_optimizers(settings: EvaluationSettings, rules: Mapping[str, Any]) -> list[Idle]:
    """Return the optimizer where it was given to parts that take no steps with any rule."""
    names = settings.optimizer * (3 // len(settings.optimizer))
    usual = setting_fields(EvaluationSettings)["optimizer"].default[0]
    idle = idle_optimizers(names, usual, _optimized(settings, rules))
    if not rules or not idle:
        return []
    why = f"on the {' and '.join(idle)} with --rule {' '.join(rules)}: an optimizer makes no step"
    return [Idle(("optimizer",), why)]


def idle_steps(settings: EvaluationSettings, rules: Mapping[str, Any]) -> list[str]:
    """Return a warning for each step size that was given and moves nothing."""
    own = any(":" in name for name in rules)
    named = [rule for name, rule in rules.items() if ":" not in name]
    still = settings.features == "given" or not (own or any(rule.learns_body for rule in named))
    idle = (
        ("body_step", still, "no body learns"),
        (
            "head_step",
            not own and all(rule.best_response_head for rule in named),
            "an lstd head is assigned",
        ),
        (
            "auxiliary_step",
            not own and not any(rule.auxiliaries for rule in named),
            "no rule keeps an auxiliary vector",
        ),
    )
    return [
        f"{shown} has no effect: {why}"
        for name, holds, why in idle
        if holds and (shown := changed(settings, name))
    ]


def still_bodies(rules: Mapping[str, Any]) -> list[str]:
    """Return a warning for each rule whose body does not learn although it could."""
    return [
        f"--rule {name}: its body does not learn, since ω* = 0 at the head's best response"
        for name, rule in rules.items()
        if rule.body_stands_still
    ]
