"""The command line of policy evaluation: its flags, and the checks of what they say by themselves.

What the flags stand for is made, and tried, in `experiments.evaluate_policy.build`.
"""

from dataclasses import dataclass, fields
from typing import Annotated, Any

import tyro

from experiments.evaluate_policy.learning_settings import LearningSettings
from experiments.runs.command_line import (
    UsageError,
    check_choice,
    check_fraction,
    check_integer,
    check_positive_integer,
    check_readable,
    check_resume_or_overwrite,
    check_step_size,
)
from neural_tdc.learning.optimisers import OPTIMIZER_NAMES
from neural_tdc.learning.projections import projection
from neural_tdc.learning.sampling import (
    SAMPLINGS,
    Sampling,
    follows_stream,
    in_segments,
    sampling_scheme,
    scheme_options,
)
from neural_tdc.learning.schedules import exponents
from neural_tdc.networks.activations import ACTIVATIONS
from neural_tdc.rules.projection_features import PSI_KINDS

# No more fits into float32.
LARGEST = 3e38


@dataclass(kw_only=True)
class Settings(LearningSettings):
    """Evaluate a fixed policy by Algorithm 1 and its relatives.

    Problems: random-walk-tabular, random-walk-dependent, random-walk-inverted, boyan, baird,
    garnet, garnet-SEED, garnet-off-policy, garnet-off-policy-SEED, grid; MountainCar-v0,
    CartPole-v1, Acrobot-v1 and any other Gymnasium id; or module:function.

    Rules: tdc (Algorithm 1), td, gtd2, tdrc, htd, vtrace, etd, residual, generalized, ttn,
    nonlinear-tdc, nonlinear-gtd2; or BODY+HEAD with a body of mspbe, semi_gradient, residual,
    corrected, generalized, frozen and a head of td, vtrace, residual, gtd2, tdc, tdrc, htd, etd,
    generalized, lstd; or module:function.
    """

    problem: str | None = None
    """A problem's name, or module:function that returns a FiniteMDP or makes an environment."""
    data: str | None = None
    """In place of --problem: an .npz file of logged data, with arrays observation, action, reward,
    terminated, truncated and, if need be, next_observation and behaviour_probability."""
    preset: str | None = None
    """on-policy or off-policy: rule and step sizes together, as recommended in
    docs/body-rules.md."""
    rule: list[str]
    """One or several learning rules, which learn from the same experience."""
    sampling: str = "markov"
    """markov: the stream in its order; iid: draws from the whole stream; replay: from its past;
    sequences: segments of consecutive transitions from the whole stream."""
    head_step: float = 0.01
    """Step size β of the head θ (dimensionless factor of a direction)."""
    auxiliary_step: float | None = None
    """Step size η of the auxiliary vector ω; that of the head if not given."""
    body_step: float = 0.001
    """Step size α of the body W; 0 leaves the body as it was initialised."""
    lambda_: Annotated[float, tyro.conf.arg(name="lambda")] = 0.0
    """Trace decay λ in [0, 1] of TD(λ), TDC(λ), GTD2(λ), TDRC(λ), HTD(λ) and LSTD(λ); 0 for no
    trace. Above 0 it needs --sampling sequences, or --features given, --sampling markov and
    --batch 1."""
    held_out_fraction: float = 0.2
    """With --data: the part of the file, at its end, that is not learned from and judges."""


def check_values(settings: Settings) -> None:
    """Raise UsageError for a value that is not allowed, or for two that exclude each other."""
    if settings.problem is None and settings.data is None:
        raise UsageError("--problem must be given, or --data in its place; see --help")
    if settings.problem is not None and settings.data is not None:
        raise UsageError(
            f"--problem {settings.problem} and --data {settings.data} exclude each other: give one"
        )
    check_choice("--features", settings.features, ("neural", "given"))
    check_choice("--sampling", settings.sampling, SAMPLINGS)
    check_choice("--activation", settings.activation, ACTIVATIONS)
    check_choice("--psi", settings.psi, PSI_KINDS)
    check_choice("--dtype", settings.dtype, ("float32", "float64"))
    check_choice("--compile", settings.compile, ("auto", "on", "off"))
    for flag, count in (
        ("--runs", settings.runs),
        ("--batch", settings.batch),
        ("--measure-every", settings.measure_every),
        ("--truth-states", settings.truth_states),
        ("--lstd-window", settings.lstd_window),
        ("--sequence-length", settings.sequence_length),
    ):
        check_positive_integer(flag, count)
    check_integer("--truth-rollouts", settings.truth_rollouts, 2)
    check_integer("--held-out", settings.held_out, 2)
    check_integer("--seed", settings.seed, 0)
    check_integer("--psi-width", settings.psi_width, 0)
    check_integer("--replay-window", settings.replay_window, 0)
    if settings.steps is not None:
        check_positive_integer("--steps", settings.steps)
    if settings.width is not None:
        check_positive_integer("--width", settings.width)
    for units in settings.hidden or []:
        check_positive_integer("--hidden", units)
    for flag, size in (
        ("--head-step", settings.head_step),
        ("--auxiliary-step", settings.auxiliary_step),
        ("--body-step", settings.body_step),
        ("--ridge", settings.ridge),
        ("--epsilon", settings.epsilon),
        ("--lstd-epsilon", settings.lstd_epsilon),
    ):
        if size is not None:
            check_step_size(flag, size)
            if settings.dtype == "float32" and size > LARGEST:
                raise UsageError(f"{flag} {size:g} is not allowed: give at most {LARGEST:g}")
    if settings.gamma is not None:
        check_fraction("--gamma", settings.gamma)
    check_trace(settings)
    if not 0 < settings.held_out_fraction < 1:
        raise UsageError(
            f"--held-out-fraction {settings.held_out_fraction:g} is not allowed: give a number "
            "between 0 and 1"
        )
    names = ["sgd"] if settings.optimizer is None else settings.optimizer
    for name in names:
        check_choice("--optimizer", name, OPTIMIZER_NAMES)
    if len(names) not in (1, 3):
        given = " ".join(["--optimizer", *names])
        raise UsageError(f"{given}: give one name, or three for body, head and auxiliary")
    check_readable("--schedule", exponents, settings.schedule)
    check_readable("--constraint", projection, settings.constraint)
    check_resume_or_overwrite(settings.resume, settings.overwrite)
    for option, schemes in scheme_options().items():
        for flag in _changed(settings, option) if settings.sampling not in schemes else []:
            raise UsageError(
                f"{flag} needs --sampling {' or '.join(schemes)}, not {settings.sampling}"
            )


def _scheme(settings: Settings) -> Sampling:
    return sampling_scheme(settings.sampling, **vars(settings))


def check_trace(settings: Settings) -> None:
    """Raise UsageError where --lambda is not allowed, or not defined for how is learned."""
    decay = check_fraction("--lambda", settings.lambda_)
    if in_segments(_scheme(settings)):
        return
    if decay and settings.features != "given":
        raise UsageError(
            f"--lambda {decay:g} is defined for features that do not learn: it needs --features "
            f"given, not {settings.features}; or --sampling sequences"
        )
    if decay and not follows_stream(_scheme(settings)):
        raise UsageError(
            f"--lambda {decay:g} follows a trace through an ordered stream: it wants --sampling "
            f"markov and --batch 1, not {settings.sampling} and {settings.batch}"
        )


def check_rules(settings: Settings, rules: dict[str, Any]) -> None:
    """Raise UsageError for a rule that cannot learn in the way that was asked for.

    rules: {name as given: rule}
    """
    for name, rule in rules.items():
        if rule.ordered and not follows_stream(_scheme(settings)):
            raise UsageError(
                f"--rule {name} follows a trace through an ordered stream: it wants --sampling "
                f"markov and --batch 1, not {settings.sampling} and {settings.batch}"
            )
        if settings.features == "given":
            try:
                rule.with_given_features()
            except ValueError:
                raise UsageError(
                    f"--rule {name} learns a body: it needs --features neural"
                ) from None


def _changed(settings: Settings, *names: str) -> list[str]:
    """Return those of the named settings that are not at their defaults, as flags with values."""
    defaults = {field.name: field.default for field in fields(settings)}
    shown = []
    for name in names:
        value = getattr(settings, name)
        if value != defaults[name]:
            values = value if isinstance(value, list) else [] if value is True else [value]
            shown.append(" ".join(["--" + name.replace("_", "-"), *map(str, values)]))
    return shown


def check_effects(settings: Settings, rules: dict[str, Any], finite: bool) -> None:
    """Raise UsageError for a flag that changes nothing on this problem or for any of the rules.

    rules: {name as given: rule}; rules of the user's own have settings of their own.
    """
    chosen = "with --rule " + " ".join(rules)
    taken = {setting for rule in rules.values() for setting in rule.settings}
    data = settings.data is not None
    of_mlp = ("hidden", "activation", "constant_feature")
    of_truth = ("truth_states", "truth_rollouts", "held_out")
    refused = (
        (settings.features == "given", ("body", "width", *of_mlp), "with --features given"),
        (settings.body != "mlp", of_mlp, f"with --body {settings.body}, only with mlp"),
        (data, ("behaviour",), "with --data: its behaviour_probability tells how it acted"),
        (data, of_truth, "with --data: no truth is known, and --held-out-fraction of it judges"),
        (not data, ("held_out_fraction",), "without --data"),
        (finite, of_truth, f"on {settings.problem}: the errors of finite problems are exact"),
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
    )
    for holds, names, why in refused:
        for flag in _changed(settings, *names) if holds else []:
            raise UsageError(f"{flag} has no effect {why}")


def idle_steps(settings: Settings, rules: dict[str, Any]) -> list[str]:
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
        f"{flag} has no effect: {why}"
        for name, holds, why in idle
        if holds
        for flag in _changed(settings, name)
    ]


def still_bodies(rules: dict[str, Any]) -> list[str]:
    """Return a warning for each rule whose body stands still though it could learn."""
    return [
        f"--rule {name}: its body stands still, since ω* = 0 at the head's best response"
        for name, rule in rules.items()
        if rule.body_stands_still
    ]
