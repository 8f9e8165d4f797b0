"""Rules over all problems of a study: ratios, profiles, improvements and sensitivity.

Sources: Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical
precipice" (profiles and the probability of improvement); Adkins, Bowling & White 2024, "A method
for evaluating hyperparameter sensitivity in reinforcement learning".
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from experiments.runs.results.intervals import Interval

# A study that says something over problems of a kind needs so many of them.
ENOUGH_PROBLEMS = 20
# A configuration whose error is within this factor of the rule's best counts as good.
NEAR = 1.5
# Below this share of the largest error of a panel an error is rounding: the features are exact.
ROUNDING_OF_BEST = 1e-11


def told_apart(scores: Sequence[float]) -> bool:
    """Return whether the best score of a panel can be compared: finite, above 0 and no rounding.

    scores: of all configurations of the panel, infinite where a run diverged

    Where the features of a rule span the values, LSTD-RMSVE is some 1e-14, and so is its ratio to
    any other rule's: one such panel would decide a geometric mean over all.
    """
    finite = [score for score in scores if math.isfinite(score)]
    return bool(finite) and min(finite) > max(0.0, ROUNDING_OF_BEST * max(finite))


def ratio_over_problems(ratios: Float[np.ndarray, " problem"]) -> Interval:
    """Return the geometric mean of a rule's ratios to a baseline and its interval over problems.

    Problems are a sample of their kind (random effects): Student's t on the logarithms, whose
    spread holds both how much problems differ and the noise of each ratio. One without a finite
    ratio above 0 is left out.
    """
    known = ratios[np.isfinite(ratios) & (ratios > 0)]
    mean = float(np.log(known).mean()) if known.size else math.nan
    if known.size < 2:
        return Interval(*(np.array(end) for end in (math.exp(mean), math.nan, math.nan)))
    from scipy.special import stdtrit

    half = float(stdtrit(known.size - 1, 0.975)) * np.log(known).std(ddof=1) / known.size**0.5
    return Interval(*(np.exp(np.array(end)) for end in (mean, mean - half, mean + half)))


def shares_within(
    errors: Sequence[Float[np.ndarray, " run"]], thresholds: Float[np.ndarray, " threshold"]
) -> Float[np.ndarray, " threshold"]:
    """Return the share of runs whose error is at most each threshold, every problem alike.

    errors: of each problem, in a unit common to the problems; infinite where a run diverged
    """
    return np.mean([(of[:, None] <= thresholds).mean(0) for of in errors], axis=0)


def improvement_over_panels(
    own: Sequence[Float[np.ndarray, " run"]], base: Sequence[Float[np.ndarray, " run"]]
) -> float:
    """Return how often a run of a rule has a smaller error than one of the baseline's.

    All pairs of runs of a problem count, a tie for half; every problem counts alike. A diverged
    run, infinite, loses against every other and ties with a diverged one.
    """
    return float(
        np.mean(
            [
                ((of[:, None] < to) + 0.5 * (of[:, None] == to)).mean()
                for of, to in zip(own, base, strict=True)
            ]
        )
    )


def improvement_interval(
    own: Sequence[Float[np.ndarray, " run"]], base: Sequence[Float[np.ndarray, " run"]]
) -> Interval:
    """Return `improvement_over_panels` and its 95 % interval over resamples of each's runs.

    Runs of one number share their random numbers: a resample draws them together.
    """
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(1_000):
        index = [random.integers(len(of), size=len(of)) for of in own]
        parts = [
            [of[each] for of, each in zip(several, index, strict=True)] for several in (own, base)
        ]
        drawn.append(improvement_over_panels(*parts))
    ends = np.quantile(drawn, [0.025, 0.975])
    return Interval(np.array(improvement_over_panels(own, base)), *ends)


def share_near_best(scores: Sequence[float], near: float = NEAR) -> float:
    """Return the share of configurations whose score is within a factor of the best's."""
    best = min(scores)
    return float(np.mean([score <= near * best for score in scores])) if best < math.inf else 0.0


def normalised_scores(
    scores: Mapping[str, Mapping[str, float]],
) -> dict[str, dict[str, float]]:
    """Return {problem: {setting: score}} with 1 for the 5th percentile of errors, 0 for the 95th.

    scores: errors, infinite where a run diverged; all rules' settings of a problem together.
    Percentiles are of the finite errors. Scores are cut to [0, 1], a diverged one is 0.
    """
    result = {}
    for problem, of in scores.items():
        finite = [score for score in of.values() if math.isfinite(score)]
        low, high = np.quantile(finite, [0.05, 0.95]) if finite else (0.0, 0.0)
        width = max(float(high - low), 1e-300)
        result[problem] = {
            setting: min(1.0, max(0.0, float(high - score) / width))
            for setting, score in of.items()
        }
    return result


def hyperparameter_sensitivity(scores: Mapping[str, Mapping[str, float]]) -> float:
    """Return what a rule gains by tuning for each problem over its best setting for all.

    scores: {problem: {setting of this rule: normalised score}}, the same settings everywhere
    Mean of the best scores minus the best mean score, in [0, 1]; 0 for a rule that one setting
    serves. Source: Adkins et al. 2024, definition of hyperparameter sensitivity.
    """
    table = np.array([list(of.values()) for of in scores.values()])
    return float(table.max(1).mean() - table.mean(0).max())


def median_of_all(values: Float[np.ndarray, " run"]) -> float:
    """Return the median over all runs; a diverged run, NaN, is infinitely bad."""
    return float(np.median(np.where(np.isnan(values), math.inf, values)))
