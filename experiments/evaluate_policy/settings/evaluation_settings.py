"""The settings of policy evaluation, and the checks of what several of them say together.

What the settings stand for is made, and tried, in `experiments.evaluate_policy.parts.plan`.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from experiments.evaluate_policy.settings.data_settings import DataSettings
from experiments.evaluate_policy.settings.learning_settings import LearningSettings
from experiments.evaluate_policy.settings.method_settings import MethodSettings
from experiments.evaluate_policy.settings.presets import preset_values
from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.program import flags_given
from experiments.runs.command_line.requirements import (
    above,
    at_least,
    count,
    from_to,
    one_of,
    several,
)
from experiments.runs.command_line.settings import CheckedSettings, changed, settings_from
from neural_tdc.learning.sampling import (
    SAMPLINGS,
    Sampling,
    follows_stream,
    in_segments,
    sampling_scheme,
)
from neural_tdc.learning.schedules import LINEAR
from neural_tdc.presets import PRESETS

# What --resample takes, and the least number of runs that it says anything with: the data
# themselves and two draws.
RESAMPLE = ("none", "episodes")
FEWEST_RESAMPLES = 3
# No more fits into float32.
LARGEST = 3e38
# The search for the best value function, in place of a rule; and the settings that it takes where
# no rule learns next to it.
AUTO = "auto"
FOR_AUTO = frozenset(
    (
        *("problem", "data", "columns", "cumulant"),
        *("policy", "behaviour", "ratio_limit", "gamma", "rule", "steps"),
        *("seed", "device", "deterministic"),
        *("truth_states", "truth_rollouts", "budget", "updates", "resample"),
        *("value_dimensions", "vector", "out", "resume", "overwrite"),
    )
)


@dataclass(frozen=True, kw_only=True)
class SearchSettings(CheckedSettings):
    """The search for the best value function (--rule auto)."""

    budget: Annotated[float | None, above(0)] = None
    """Seconds for learning. If --updates would take longer, fewer are made; the result then
    also depends on the speed of the machine."""
    updates: Annotated[int, count(0)] = 8_000
    """Updates of the networks among the candidates (0: no networks), and of fitted and
    stackelberg-td."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(SearchSettings, MethodSettings, LearningSettings, DataSettings):
    """Evaluate a fixed policy: by the best value function, or by rules such as Algorithm 1.

    Without --rule and --preset the program searches for the best value function
    (docs/best-value.md). Settings of learning rules have no effect on this search and are refused.
    """

    program: ClassVar[str] = "python -m experiments.evaluate_policy"
    may_differ: ClassVar[tuple[str, ...]] = ("steps", "device", "value_dimensions")

    problem: str | None = None
    """Name of a problem, or module:function that returns a FiniteMDP or an environment."""
    preset: Annotated[str | None, one_of(PRESETS)] = None
    """A rule with all its settings (docs/presets.md): fast; accurate; off-policy, if another policy
    acts; paper, Algorithm 1; on-policy, TD with SGD and unscaled rewards (docs/body-rules.md)."""
    rule: Annotated[tuple[str, ...], several] = (AUTO,)
    """One or several learning rules, which learn from the same experience. auto searches for the
    best value function on the experience of the first run."""
    sampling: Annotated[str, one_of(SAMPLINGS)] = "markov"
    """markov: transitions in their order; iid: random transitions of the whole stream; replay:
    random transitions of its past; sequences: random segments of consecutive transitions."""
    head_step: Annotated[float, at_least(0)] = 0.01
    """Step size β of the head θ (the dimensionless factor of its direction)."""
    auxiliary_step: Annotated[float | None, at_least(0)] = None
    """Step size η of the auxiliary vector ω. The default is --head-step."""
    body_step: Annotated[float, at_least(0)] = 0.001
    """Step size α of the body W. With 0 the body does not change."""
    lambda_: Annotated[float, from_to(0, 1)] = 0.0
    """Trace decay λ in [0, 1] of TD(λ), TDC(λ), GTD2(λ), TDRC(λ), HTD(λ) and LSTD(λ); 0 means no
    trace. Above 0 it needs --sampling sequences, or --features given with --sampling markov and
    --batch 1."""
    values: Annotated[str, one_of(("v", "q"))] = "v"
    """v: values of states; q: values of actions, from which V is computed. With q, off-policy
    learning needs no importance ratios, and --data needs no behaviour_probability, if --lambda
    is 0."""
    resample: Annotated[str, one_of(RESAMPLE)] = "none"
    """episodes: run 0 learns from the first stream, and each other run from episodes of it that are
    drawn with replacement (from blocks of 4/(1 − γ) steps if the episodes are long). This gives an
    interval of the policy's value over the randomness of the data. auto solves its heads on 100
    such draws."""
    value_dimensions: Annotated[tuple[int, ...] | None, count(0)] = None
    """The two components of the observation, numbered from 0, over which values.png shows V. The
    default is the two components that V depends on most."""

    def __post_init__(self) -> None:
        """Check every field, and what several of them say together."""
        super().__post_init__()
        if self.problem is None and self.data is None:
            raise UsageError("--problem must be given, or --data in its place; see --help")
        if self.problem is not None and self.data is not None:
            raise UsageError(
                f"--problem {self.problem} and {self.data_flags} exclude each other: give one"
            )
        if self.values == "q" and AUTO in self.rule:
            raise UsageError(
                "--values q needs --rule: without one, or with auto, values of states are searched "
                "for"
            )
        pair = self.value_dimensions
        if pair is not None and len(set(pair)) != 2:
            given = " ".join(map(str, pair))
            raise UsageError(f"--value-dimensions {given}: give two different numbers, such as 0 1")
        if self.rule != (AUTO,):
            if self.resample != "none" and self.runs < FEWEST_RESAMPLES:
                raise UsageError(
                    f"--resample {self.resample} needs several runs, of which the first has the "
                    f"data as they are: --runs {self.runs} must be at least {FEWEST_RESAMPLES}"
                )
            _check_float32(self)
            _check_trace(self)
            _check_features(self)

    @classmethod
    def description(cls) -> str:
        """Return what the program does, and the names that the registries hold."""
        # Here, since only the help page needs them.
        from envs.problems import problem_names
        from neural_tdc.baselines.methods import METHODS
        from neural_tdc.rules.registry import BODY_ROWS, HEAD_ROWS, RULES

        problems, rules, methods, bodies, heads = map(
            ", ".join, (problem_names(), RULES, METHODS, BODY_ROWS, HEAD_ROWS)
        )
        listed = (
            f"Problems: {problems} and any other Gymnasium id; or module:function.",
            f"Rules: auto; {rules}; or BODY+HEAD with a body of {bodies} and a head of {heads}; or "
            "module:function.",
            f"Methods, which learn from all transitions at once: {methods}.",
        )
        wrapped = (textwrap.fill(each, 92, break_on_hyphens=False) for each in listed)
        return "\n\n".join([super().description(), *wrapped])

    @property
    def scheme(self) -> Sampling:
        """Return the sampling scheme."""
        return sampling_scheme(self.sampling, **vars(self))


def read_evaluation_settings(argv: Sequence[str]) -> EvaluationSettings:
    """Make the settings of a command line and of the preset that it names."""
    given = flags_given([EvaluationSettings], argv)
    return settings_from(EvaluationSettings, preset_values(given), given)


def _check_float32(settings: EvaluationSettings) -> None:
    sizes = (*("head_step", "auxiliary_step", "body_step", "ridge", "epsilon", "lstd_epsilon"),)
    for name in sizes if settings.dtype == "float32" else ():
        if (getattr(settings, name) or 0.0) > LARGEST:
            raise UsageError(f"{changed(settings, name)} is not allowed: give at most {LARGEST:g}")


def _check_trace(settings: EvaluationSettings) -> None:
    decay = settings.lambda_
    if in_segments(settings.scheme):
        return
    if decay and settings.features != "given":
        raise UsageError(
            f"--lambda {decay:g} needs --sampling sequences where features learn; or --features "
            f"given, not {settings.features}"
        )
    if decay and not follows_stream(settings.scheme):
        raise UsageError(
            f"--lambda {decay:g} keeps a trace along an ordered stream: it needs --sampling "
            f"markov and --batch 1, not {settings.sampling} and {settings.batch}"
        )


def _check_features(settings: EvaluationSettings) -> None:
    if settings.features == "neural" and ":" in settings.body and settings.width is not None:
        raise UsageError("--width: a body of your own has the width that it returns")
    if settings.features == "neural" and settings.width == 1 and settings.constant_feature:
        raise UsageError("--width 1 and --constant-feature leave no feature to learn")


def check_same_end(settings: EvaluationSettings, steps: int, steps_before: int) -> None:
    """Raise UsageError where a run whose schedule ends with it is to be made longer."""
    if settings.schedule == LINEAR and steps != steps_before:
        raise UsageError(
            f"--steps {steps}: with --schedule {LINEAR} the step sizes reach 0 at the "
            f"{steps_before} steps of this run, and a longer one is another run: give another --out"
        )
