"""What `neural_tdc.evaluate` does where it is given a method in place of a rule."""

import inspect
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

from torch import Tensor

from neural_tdc.baselines.method import Method
from neural_tdc.baselines.methods import METHODS
from neural_tdc.baselines.prefixes import prefix_measurements
from neural_tdc.metrics.evaluators import sample_evaluator
from neural_tdc.metrics.samples import in_rows
from neural_tdc.rules.rule import Rule
from neural_tdc.types import FeatureMap, Parameters, Transition, mapped

# Arguments of `neural_tdc.evaluate` that a method takes too.
_OF_METHODS = {
    *("transitions", "rule", "runs", "held_out", "trace_decay", "seed", "device", "progress"),
}


class MethodEvaluation(NamedTuple):
    """The first fields of an `Evaluation`, of a method at its end."""

    parameters: Parameters
    features: FeatureMap
    steps: list[int]
    measurements: dict[str, Tensor]
    diverged: Tensor


def asked_method(rule: Any, given: Mapping[str, Any], evaluate: Any) -> Method | None:
    """Return the method that is meant by a rule's name or object, None for a rule.

    given:    the arguments of `evaluate` by name
    evaluate: whose usual arguments they are compared with

    Raises ValueError for an argument that only learning rules take.
    """
    method = METHODS.get(rule) if isinstance(rule, str) else rule
    if not isinstance(method, Method):
        return None
    for name, parameter in inspect.signature(evaluate).parameters.items():
        value, usual = given[name], parameter.default
        if name not in _OF_METHODS and value is not usual and value != usual:
            raise ValueError(f"{name} has no effect on {method.name}, which is not a learning rule")
    decay = given["trace_decay"]
    return method.with_settings(trace_decay=decay) if decay else method


def evaluate_method(
    method: Method,
    learned: Transition,
    unseen: Transition,
    runs: int,
    seed: int,
    progress: Callable[[int], Any] | None,
) -> MethodEvaluation:
    """Learn by a method, run i from stream i in turn, and measure it once.

    learned: [stream, time, …]; unseen: [sample, …]
    """
    streams = [mapped(learned, itemgetter(run % len(learned.reward))) for run in range(runs)]
    time = learned.reward.shape[1]
    (measurement,) = prefix_measurements(
        method,
        streams,
        lambda features: sample_evaluator(in_rows(unseen), None, features, Rule()),
        steps=time,
        prefixes=1,
        seed=seed,
    )
    if progress:
        progress(time)
    parameters, features, _ = measurement.state
    values = {name: value[None] for name, value in measurement.values.items()}
    diverged = measurement.diverged.to(parameters.head.device)
    return MethodEvaluation(parameters, features, [time], values, diverged)
