"""What is said at the end of supervised learning: comparisons, correlations, warnings."""

from collections.abc import Mapping

import numpy as np
import torch

from experiments.runs.results.history import History
from experiments.runs.results.intervals import Interval, paired_difference
from experiments.runs.results.report import mean_with_interval
from experiments.runs.results.statistics import auc
from experiments.train_supervised.run import SupervisedRun
from neural_tdc.stackelberg.barzilai_borwein import rate_norm_correlation

NOTES = {"cifar10": "images as they are in --data; say next to any number which copies they are"}


def _entry(interval: Interval) -> dict[str, float]:
    return {name: float(value) for name, value in interval._asdict().items()}


def comparisons(histories: Mapping[str, History]) -> list[str]:
    """Return a line an arm: what the arm `split` gains on it, seed by seed; none without it."""
    if "split" not in histories:
        return []
    lines = []
    ours = histories["split"]
    for arm, theirs in histories.items():
        if arm == "split":
            continue
        said = []
        for title, metric in (("test loss", "test/loss"), ("accuracy", "test/accuracy")):
            if metric in ours.names:
                final = paired_difference(ours.last(metric), theirs.last(metric))
                whole = paired_difference(auc(ours, metric), auc(theirs, metric))
                said.append(
                    f"{title} {mean_with_interval(_entry(final))}, "
                    f"AUC {mean_with_interval(_entry(whole))}"
                )
        lines.append(f"split − {arm}: {'; '.join(said)}")
    return lines


def correlations(histories: Mapping[str, History]) -> list[str]:
    """Return a line an automatic arm and part: how its rate goes with the gradient's norm.

    Over the measurements of each run, then the median over runs.
    """
    lines = []
    for arm, history in histories.items():
        if "gradient/body" not in history.names:
            continue
        for part in ("body", "head"):
            found = _correlation(history, part)
            lines.append(f"{arm}, {part}: correlation of log rate and log gradient norm {found}")
    return lines


def _correlation(history: History, part: str) -> str:
    numbers = []
    for rates, norms in zip(
        history.values(f"step_size/{part}").T, history.values(f"gradient/{part}").T
    ):
        # The first measurement is before the first update, when no rate was chosen yet.
        known = np.isfinite(rates) & np.isfinite(norms) & (rates > 0) & (norms > 0)
        if known.sum() >= 3:
            pair = (torch.from_numpy(rates[known]), torch.from_numpy(norms[known]))
            numbers.append(rate_norm_correlation(*pair).logarithmic)
    finite = [number for number in numbers if np.isfinite(number)]
    if not finite:
        return "not measured"
    return (
        f"{np.median(finite):+.2f}, the median of {len(finite)} runs "
        f"({min(finite):+.2f} to {max(finite):+.2f})"
    )


def unsolved_warning(run: SupervisedRun) -> str | None:
    """Return a warning where a best response missed its tolerance."""
    tolerance = run.plan.learning.responder.tolerance
    worst = max(
        (np.nanmax(history.values("response/residual"), initial=0.0))
        for history in run.histories.values()
    )
    if run.plan.dataset.classes is None or worst <= tolerance:
        return None
    return (
        f"warning: a softmax best response did not converge: residual {worst:.1e} above the "
        f"--response-tolerance {tolerance:.1e}; "
        "tracking errors and the arm limit are off by as much"
    )
