"""The grid of a comparison: what enters it, with which learning rates, and which are the best.

An entrant is a rule and an arm. Its candidates are the learning rates that the arm makes of every
body rate α and ratio ρ of the grid: split (α, ρα), body (α, α), head (ρα, ρα), opposite (ρα, α).
Candidates of one rule with the same rates are one and learn once for all their entrants.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.compare_dqn.settings import Comparison
from experiments.runs.results.intervals import interquartile_mean
from experiments.train_dqn.settings import dqn_arm_rates


class Entrant(NamedTuple):
    """What is compared."""

    rule: str
    arm: str

    @property
    def name(self) -> str:
        """Return its name in tables and files."""
        return f"{self.rule}/{self.arm}"


class Candidate(NamedTuple):
    """A rule with the learning rates of body and head; the fields are settings of its runs."""

    rule: str
    body_step: float
    head_step: float


def entrants(comparison: Comparison) -> list[Entrant]:
    """Return every rule with every arm."""
    settings = comparison.settings
    return [Entrant(rule, arm) for rule in comparison.rules for arm in settings.arm]


def candidates(comparison: Comparison, entrant: Entrant) -> list[Candidate]:
    """Return the candidates of an entrant, each once."""
    settings = comparison.settings
    # Ten digits: products of the same size are then the same number.
    found = [
        Candidate(
            entrant.rule,
            *dqn_arm_rates(entrant.arm, body_step, float(f"{body_step * ratio:.10g}")),
        )
        for body_step in settings.body_steps
        for ratio in settings.ratios
    ]
    return list(dict.fromkeys(found))


def best_candidate(
    scores: Mapping[Candidate, np.ndarray], choices: Sequence[Candidate]
) -> tuple[Candidate, float]:
    """Return the candidate with the largest interquartile mean over its seeds, and that mean.

    scores: [seed] of every candidate, −∞ for a run that diverged
    """
    means = {each: interquartile_mean(scores[each]) for each in choices}
    chosen = max(choices, key=lambda each: means[each])
    return chosen, means[chosen]
