"""Step sizes over time, as factors that multiply each part's own base step, and when to measure.

A schedule is `factors(update) -> StepSizes`, with update = 0, 1, 2, … as a tensor, so that it can
stand inside a compiled program. `linear` ends with the run, the others do not know its length. The
split between the parts is in the base steps and, for the papers' schedules, in the exponents; no
schedule overwrites it.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from neural_tdc.types import StepSizes


class Exponents(NamedTuple):
    """Decay exponents a of ((h + k)/h)^(−a), one a part; h is the schedule's offset, often 1."""

    body: float
    head: float
    auxiliary: float


# Of a run whose grid is not given.
MEASUREMENTS = 50

Schedule = Callable[[Tensor], StepSizes]

# Names as on the command line. "general" and "strongly-convex" are the step sizes of Theorems 3.6
# and 3.7 of arXiv 2605.15530: slower decay for the head, whose auxiliary decays with it.
EXPONENTS: dict[str, Exponents] = {
    "constant": Exponents(0.0, 0.0, 0.0),
    "general": Exponents(3 / 5, 2 / 5, 2 / 5),
    "strongly-convex": Exponents(1.0, 2 / 3, 2 / 3),
}


# The same for all parts, from 1 down to 0 at the end of the run.
LINEAR = "linear"


def offset(name: str) -> tuple[str, float]:
    """Split `NAME@h` into the name and the offset h > 0 of ((h + k)/h)^(−a); h is 1 without @.

    The steps hardly decay over the first h updates. With a = 1 an error falls like 1/k only if the
    first step times h times the curvature exceeds 1/2. Raises ValueError for another h.
    """
    kind, at, number = name.partition("@")
    if not at:
        return name, 1.0
    try:
        updates = float(number)
    except ValueError:
        updates = math.nan
    if not 0 < updates < math.inf:
        raise ValueError(f"schedule {name!r} needs an offset above 0 behind @")
    return kind, updates


def exponents(name: str) -> Exponents:
    """Read a schedule's name: one of EXPONENTS, `polynomial:a` or `polynomial:body,head,auxiliary`.

    `@h` may follow, see `offset`. Raises ValueError for another name or an exponent outside [0, 1].
    """
    plain, _ = offset(name)
    if plain in EXPONENTS:
        return EXPONENTS[plain]
    kind, _, numbers = plain.partition(":")
    allowed = f"{', '.join(EXPONENTS)}, polynomial:A or polynomial:BODY,HEAD,AUXILIARY"
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


def check_schedule(name: str) -> None:
    """Raise ValueError where `schedule` does not know a name."""
    if name != LINEAR:
        try:
            exponents(name)
        except ValueError as error:
            said = str(error).replace("not one of constant", f"not one of {LINEAR}, constant")
            raise ValueError(said) from None


def schedule(name: str, steps: int | None = None) -> Schedule:
    """Return the factors of a named schedule: `linear`, or a name that `exponents` reads.

    A name may end in @h, see `offset`: `strongly-convex@20`.
    steps: updates of the whole run, for `linear`: its factor 1 − update/steps is 0 at the end

    Raises ValueError for another name, and for `linear` without steps.
    """
    if name == LINEAR:
        if steps is None or steps < 1:
            raise ValueError(f"schedule {name!r} ends with the run: its steps must be given")
        return _falling(steps)
    powers, (_, delay) = exponents(name), offset(name)

    def factors(update: Int[Tensor, ""]) -> StepSizes:
        count = (update.to(torch.float64) + delay) / delay
        return StepSizes(*(torch.ones_like(count) if a == 0 else count**-a for a in powers))

    return factors


def _falling(steps: int) -> Schedule:
    def factors(update: Int[Tensor, ""]) -> StepSizes:
        factor = (1 - update.to(torch.float64) / steps).clamp(min=0)
        return StepSizes(factor, factor, factor)

    return factors


def measured_steps(
    steps: int, every: int | None, *, first: int = 1, after: int = -1, length: int | None = None
) -> list[int]:
    """Return the numbers of updates after which to measure: first, first + every, … and the last.

    every:  updates between two measurements; None for MEASUREMENTS of them, of which the i-th is
            after (i/MEASUREMENTS)² of the run: curves bend at their beginning
    first:  0 measures what is there before the first update too
    after:  leave out those up to here, which are measured already
    length: updates of the run that the uneven grid is made for, `steps` if not given. A longer run
            goes on along the same square.
    """
    if every is None:
        share = (steps if length is None else length) / MEASUREMENTS**2
        last = math.isqrt(int(steps / share))
        chosen = {first, *(round(share * index**2) for index in range(1, last + 1))}
    else:
        chosen = set(range(first, steps + 1, every))
    return sorted(step for step in {*chosen, steps} if step > after and first <= step <= steps)
