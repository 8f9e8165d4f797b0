"""Step sizes over time, as factors that multiply each part's own base step, and when to measure.

A schedule is `factors(update) -> StepSizes`, with update = 0, 1, 2, … as a tensor, so that it can
stand inside a compiled program. The split between the parts is in the base steps and, for the
papers' schedules, in the exponents; no schedule overwrites it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from neural_tdc.types import StepSizes


class Exponents(NamedTuple):
    """Decay exponents a of (k+1)^(−a), one a part."""

    body: float
    head: float
    auxiliary: float


Schedule = Callable[[Tensor], StepSizes]

# Names as on the command line. "general" and "strongly-convex" are the step sizes of Theorems 3.6
# and 3.7 of arXiv 2605.15530: slower decay for the head, whose auxiliary decays with it.
EXPONENTS: dict[str, Exponents] = {
    "constant": Exponents(0.0, 0.0, 0.0),
    "general": Exponents(3 / 5, 2 / 5, 2 / 5),
    "strongly-convex": Exponents(1.0, 2 / 3, 2 / 3),
}


def exponents(name: str) -> Exponents:
    """Read a schedule's name: one of EXPONENTS, `polynomial:a` or `polynomial:body,head,auxiliary`.

    Raises ValueError for another name or an exponent outside [0, 1].
    """
    if name in EXPONENTS:
        return EXPONENTS[name]
    kind, _, numbers = name.partition(":")
    allowed = f"{', '.join(EXPONENTS)}, polynomial:a or polynomial:body,head,auxiliary"
    if kind != "polynomial":
        raise ValueError(f"schedule {name!r} is not one of {allowed}")
    try:
        powers = [float(number) for number in numbers.split(",")]
    except ValueError:
        raise ValueError(f"schedule {name!r} is not of the form {allowed}") from None
    if len(powers) == 1:
        powers = powers * 3
    if len(powers) != 3 or not all(0 <= power <= 1 for power in powers):
        raise ValueError(f"schedule {name!r} needs one or three exponents between 0 and 1")
    return Exponents(*powers)


def schedule(name: str) -> Schedule:
    """Return the factors of a named schedule; see `exponents` for the names."""
    powers = exponents(name)

    def factors(update: Int[Tensor, ""]) -> StepSizes:
        count = update.to(torch.float64) + 1
        return StepSizes(*(torch.ones_like(count) if a == 0 else count**-a for a in powers))

    return factors


def measured_steps(steps: int, every: int, *, first: int = 1, after: int = -1) -> list[int]:
    """Return the numbers of updates after which to measure: first, first + every, … and the last.

    first: 0 measures what is there before the first update too
    after: leave out those up to here, which are measured already
    """
    return sorted(step for step in {*range(first, steps + 1, every), steps} if step > after)
