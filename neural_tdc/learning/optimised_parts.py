"""Which parts of the parameters an optimiser moves, and which given optimisers move none."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from neural_tdc.rules.rule import Rule


class OptimizedParts(NamedTuple):
    """Of each part of the parameters, whether an optimiser makes its steps."""

    body: bool
    head: bool
    auxiliary: bool


def optimized_parts(rule: Rule, *, given_features: bool) -> OptimizedParts:
    """Return the parts of a rule that take steps: a head that is assigned takes none."""
    return OptimizedParts(
        body=rule.learns_body and not given_features,
        head=not rule.best_response_head,
        auxiliary=bool(rule.auxiliaries),
    )


def idle_optimizers(
    optimizers: Sequence[Any], usual: Any, learning: Sequence[OptimizedParts]
) -> list[str]:
    """Return the parts that were given an optimiser and take no steps with any of the rules.

    optimizers: of body, head and auxiliary, by name or as they are; usual: that of plain steps
    learning:   the parts of each rule that take steps
    """
    moving = [part for part in OptimizedParts._fields if any(getattr(x, part) for x in learning)]
    # One for all parts is for those that there are.
    if len(set(optimizers)) == 1 and moving:
        return []
    given = zip(OptimizedParts._fields, optimizers, strict=True)
    return [part for part, each in given if each != usual and part not in moving]
