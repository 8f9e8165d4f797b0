"""The families of candidates for the best value function, learned on the folds of a log."""

import time
from collections.abc import Callable, Iterator

import torch

from neural_tdc.baselines.candidates import (
    DECAYS,
    RIDGES,
    CandidateGroup,
    Folds,
    least_squares_group,
)
from neural_tdc.baselines.feature_blocks import Block
from neural_tdc.baselines.fitted import FittedPlan, fit_lambda_returns
from neural_tdc.baselines.log_preparation import joined
from neural_tdc.baselines.polynomial_features import polynomial_blocks
from neural_tdc.baselines.random_features import RANDOM_FEATURES, random_tanh
from neural_tdc.baselines.stackelberg_td import fitted_group, stackelberg_group
from neural_tdc.randomness import generator
from neural_tdc.types import Parameters

CandidateProgress = Callable[[str, int, int], None]


def no_candidate_progress(what: str, done: int, total: int) -> None:
    """Hear how far the candidates are and do nothing."""


# Scales of random features, in deviations of the observations.
SCALES = (1.0, 2.0, 4.0)
# The share and the scale of random features next to learned ones, of those that are alone.
BESIDE, BESIDE_SCALE = 0.75, 2.0
# Kind and scale of the random features next to polynomials.
BESIDE_POLYNOMIALS = ("random", 2.0)
# λ of the λ-returns that bodies learn from.
BODY_DECAYS = (0.9, 1.0)
# Candidates of a search off-policy, where traces have two limits; the best constant is one, and
# two groups have polynomials.
MOST_CANDIDATES = 1 + (
    2 * len(DECAYS) * len(RIDGES) * (len(SCALES) * len(RANDOM_FEATURES) + 2 + len(BODY_DECAYS))
    + len(BODY_DECAYS)
)
# Updates on which the time of one is measured, and the share of the budget left to solving heads.
_TIMED_UPDATES, _FEWEST_UPDATES = 20, 500
_FOR_HEADS = 0.3


def candidate_groups(
    folds: Folds,
    seed: int,
    width: int,
    updates: int,
    deadline: float | None,
    on_progress: CandidateProgress | None,
) -> Iterator[CandidateGroup]:
    """Learn the candidates of all families on every fold, group by group.

    width:       random features of a candidate that has no others
    updates:     of the networks that learn; 0 leaves them out
    deadline:    of `time.monotonic`; the number of updates is lowered to what is measured to fit
    on_progress: is called with (what is being done, how much of it is done, of how
                 much); a group is one
    """
    report = on_progress or no_candidate_progress
    whole = joined(folds.parts)
    off_policy = bool((whole.ratio != 1).any())
    limits = (torch.inf, 1.0) if off_policy else (torch.inf,)
    inputs, count = whole.observation.shape[1], len(folds.parts)
    device = whole.observation.device
    # The best constant: LSTD(0) on nothing but the constant feature.
    yield least_squares_group("constant", folds, [[]] * count, (0.0,), (0.0,))
    beside_polynomials: list[Block] = []
    for kind, draw in RANDOM_FEATURES.items():
        for size in SCALES:
            if deadline is not None and time.monotonic() > deadline:
                return
            report(f"lstd-{kind} at scale {size:g}", 0, 1)
            block = draw(inputs, width, size, generator(seed, kind, str(size)), device)
            if (kind, size) == BESIDE_POLYNOMIALS:
                beside_polynomials = [block]
            yield least_squares_group(
                f"lstd-{kind}", folds, [[block]] * count, trace_limits=limits, scale=size
            )
    polynomials = polynomial_blocks(inputs, device)
    for beside in ([], beside_polynomials) if polynomials else ():
        if deadline is not None and time.monotonic() > deadline:
            return
        report("lstd-polynomial", 0, 1)
        blocks = [*polynomials, *beside]
        yield least_squares_group(
            "lstd-polynomial",
            folds,
            [blocks] * count,
            trace_limits=limits,
            random=width if beside else 0,
        )
    lengths = torch.tensor([len(part.reward) for part in folds.parts])
    part_of = torch.arange(count).repeat_interleave(lengths).to(device)
    used = torch.stack([part_of != fold for _ in BODY_DECAYS for fold in range(count)])
    each = [decay for decay in BODY_DECAYS for _ in range(count)]

    def fit(plan: FittedPlan, progress: Callable[[int], None] | None = None) -> Parameters:
        return fit_lambda_returns(whole, used, each, plan, seed, 1.0, progress)

    if deadline is not None and updates:
        # One computation of λ-returns, and some updates more.
        clock = [time.monotonic()]
        for more in (1, 1 + _TIMED_UPDATES):
            fit(FittedPlan(updates=more, refits=1))
            clock.append(time.monotonic())
        refit, one = clock[1] - clock[0], (clock[2] - 2 * clock[1] + clock[0]) / _TIMED_UPDATES
        left = (1 - _FOR_HEADS) * (deadline - clock[2]) - FittedPlan().refits * refit
        updates = min(updates, int(left / max(one, 1e-6)))
        updates = updates if updates >= _FEWEST_UPDATES else 0
    if not updates:
        return

    what = "updates of bodies"
    report(what, 0, updates)
    networks = fit(FittedPlan(updates=updates), lambda done: report(what, done, updates))
    random = random_tanh(
        inputs, max(1, round(BESIDE * width)), BESIDE_SCALE, generator(seed, "beside"), device
    )
    for row, decay in enumerate(BODY_DECAYS):
        indices = range(row * count, (row + 1) * count)
        yield fitted_group(networks, indices, decay, updates)
        report(f"stackelberg-td with λ {decay:g} of the body", 0, 1)
        yield stackelberg_group(networks, indices, decay, folds, random, trace_limits=limits)
