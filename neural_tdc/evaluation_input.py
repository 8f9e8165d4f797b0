"""What `evaluate` is given, checked: transitions, numbers, rule, optimisers, actions."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from neural_tdc.baselines.methods import rule_or_method
from neural_tdc.learning.optimised_parts import idle_optimizers, optimized_parts
from neural_tdc.learning.optimisers import SGD, PartOptimizers, part_optimizers
from neural_tdc.learning.sampling import Sampling, follows_stream, in_segments
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Transition, mapped


def asks_for_actions(values: str, action: Tensor | None, policy: Any) -> bool:
    """Return whether q is asked for; ValueError for what does not go together."""
    if values not in ("v", "q"):
        raise ValueError(f"values {values!r} is not one of v, q")
    missing = [name for name, part in (("action", action), ("policy", policy)) if part is None]
    if values == "q" and missing:
        raise ValueError(f"values 'q' needs {' and '.join(missing)}")
    if values == "v" and len(missing) < 2:
        raise ValueError("action and policy have no effect with values 'v'")
    return values == "q"


def check_numbers(**numbers: int | None) -> None:
    """Raise ValueError for a number below 1; None is a number that is not given."""
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{name} is {number}; it must be at least 1")


def check_step_sizes(**step_sizes: float) -> None:
    """Raise ValueError for a step size that is negative or not finite."""
    for name, size in step_sizes.items():
        if not 0 <= size < math.inf:
            raise ValueError(f"{name} is {size:g}; it must be finite and at least 0")


def learned_part(held_out: float, time: int) -> int:
    """Return the number of transitions to learn from; ValueError where a part would be empty."""
    kept = time - max(1, round(held_out * time))
    if not 0 < held_out < 1 or kept < 1:
        raise ValueError(
            f"held_out is {held_out:g}; of {time} transitions both parts must have some"
        )
    return kept


def checked_rule(
    given: Any,
    trace_decay: float,
    sampling: str | Sampling,
    scheme: Sampling,
    *,
    of_actions: bool,
) -> Rule:
    """Return the rule with its traces; ValueError where it does not go with the sampling scheme.

    sampling, scheme: as it was given, and the object that it names
    """
    rule = rule_or_method(given) if isinstance(given, str) else given
    if not isinstance(rule, Rule):
        raise ValueError(f"rule is of type {type(rule).__name__}; it must be a neural_tdc.Rule")
    if of_actions:
        rule = rule.with_action_values()
    if in_segments(scheme):
        rule = rule.with_lambda_returns(trace_decay)
    elif trace_decay != 0:
        rule = rule.with_settings(trace_decay=trace_decay)
    if rule.ordered and not follows_stream(scheme):
        traced = f" with trace_decay {trace_decay:g}" if trace_decay else ""
        raise ValueError(
            f"rule {rule.name!r}{traced} needs an ordered stream and batch 1: sampling 'markov' "
            f"and batch 1, not {sampling!r} and {scheme.batch}"
        )
    return rule


def checked_optimizers(
    given: str | Sequence[str] | PartOptimizers,
    max_grad_norm: float | None,
    rule: Rule,
    *,
    given_features: bool,
) -> PartOptimizers:
    """Return the optimiser of each part; ValueError for one of a part that takes no steps."""
    learning = [optimized_parts(rule, given_features=given_features)]
    if isinstance(given, PartOptimizers):
        if max_grad_norm is not None:
            raise ValueError(
                "max_grad_norm is for optimizers given by name: use `limited` on others"
            )
        optimizers = given
        idle = idle_optimizers(given, SGD, learning)
    else:
        optimizers = part_optimizers(given, max_grad_norm)
        names = (given,) if isinstance(given, str) else tuple(given)
        idle = idle_optimizers(names * (3 // len(names)), "sgd", learning)
    if idle:
        raise ValueError(
            f"optimizer has no effect on the {' and '.join(idle)} of rule {rule.name!r}: "
            "they take no steps; give plain steps (sgd) there"
        )
    return optimizers


def checked_streams(streams: Transition, device: torch.device | str) -> Transition:
    """Return the streams on the device, complete; raise ValueError where they do not fit.

    Observations of bytes stay bytes.
    """
    shape = streams.reward.shape
    complete = streams
    if streams.first is None:
        first = torch.zeros_like(streams.reward)
        first[:, :1] = 1
        complete = streams._replace(first=first)
    for name, leaf in complete._asdict().items():
        if leaf.shape[:2] != shape:
            raise ValueError(
                f"{name} has shape {tuple(leaf.shape)}; it must begin with the dimensions of "
                f"reward, {tuple(shape)}"
            )
        if leaf.dtype == torch.uint8:
            continue
        wrong = ~torch.isfinite(leaf).flatten(2).all(2) if leaf.dim() > 2 else ~leaf.isfinite()
        if bool(wrong.any()):
            stream, time = wrong.nonzero()[0].tolist()
            raise ValueError(f"{name} is not finite at time {time} of stream {stream}")
    for name in ("reward", "discount", "ratio", "first"):
        if getattr(complete, name).dim() != 2:
            raise ValueError(f"{name} must hold one number per transition")
    if complete.observation.shape != complete.next_observation.shape:
        raise ValueError("observation and next_observation differ in shape")
    if bool(((complete.discount < 0) | (complete.discount > 1)).any()):
        raise ValueError("discount must lie in [0, 1]")
    if bool((complete.ratio < 0).any()):
        raise ValueError("ratio must not be negative")
    reward = streams.reward
    dtype = reward.dtype if reward.is_floating_point() else torch.get_default_dtype()
    seen = (
        leaf.to(device) if leaf.dtype == torch.uint8 else leaf.to(device, dtype)
        for leaf in (complete.observation, complete.next_observation)
    )
    plain = complete._replace(observation=reward, next_observation=reward)
    numbers = mapped(plain, lambda leaf: leaf.to(device, dtype))
    return numbers._replace(**dict(zip(("observation", "next_observation"), seen)))
