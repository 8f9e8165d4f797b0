"""What is written and printed of a choice of the best value function."""

from collections.abc import Mapping
from typing import Any

from agents.resampled_task import evidence
from agents.task import Task
from experiments.evaluate_policy.learning.start_value import (
    ONE_SEARCH,
    resampled_over,
    value_entry,
)
from experiments.evaluate_policy.settings.evaluation_settings import AUTO
from experiments.runs.results.report import number, table_lines
from experiments.runs.results.statistics import number_or_none
from neural_tdc.baselines.linear_value import LinearValue
from neural_tdc.best_value import BestValue
from neural_tdc.learning.resampling import data_interval
from neural_tdc.metrics.value_errors import rmsve
from neural_tdc.types import Transition

_COLUMNS = ("family", "RMSVE", "held-out error above the smallest", "settings")


def value_error(value: LinearValue, task: Task) -> float | None:
    """Return the root mean squared value error where a truth is known."""
    truth = task.truth
    if truth is None:
        return None
    # What was learned on a device is measured where the truth is.
    values = value(truth.observation.to(value.head.device)).to(truth.value.device)
    return float(rmsve(values, truth.value.double(), truth.weighting, truth.squared_error))


def choice_summary(best: BestValue, task: Task, stream: Transition) -> dict[str, Any]:
    """Return what `summary.json` holds of a choice besides the rest, the ranking of families too.

    stream: the transitions that were learned from, observations as in the task
    """
    over = ONE_SEARCH
    if best.resampled:
        over = resampled_over(len(best.start_values), best.resampled)
    return {
        **value_entry(*data_interval(best.start_values), over, evidence(stream)),
        "criterion": best.criterion,
        "chosen": [{"family": family, **chosen} for family, chosen in best.chosen],
        "ranking": [
            {
                "family": row.family,
                "settings": row.settings,
                "held_out_error": row.score,
                "difference": [number_or_none(bound) for bound in row.difference],
                "rmsve": value_error(row.value, task),
            }
            for row in best.ranking
        ],
        "family_seconds": {name: round(spent, 3) for name, spent in best.seconds.items()},
        "notes": list(best.notes),
    }


def choice_lines(summary: Mapping[str, Any], *, truth: bool) -> list[str]:
    """Return what is printed of a choice: the ranking as a table, the choice, and notes.

    summary: of the finished search; truth: whether there is one, so that errors are known
    """
    rows = [list(_COLUMNS)]
    for family in summary["ranking"]:
        mean, low, high = family["difference"]
        interval = f"{number(mean)} [{number(low)}, {number(high)}]" if mean else "0"
        described = ", ".join(f"{name} {value:g}" for name, value in family["settings"].items())
        rows.append([family["family"], number(family["rmsve"]), interval, described])
    families = sorted({each["family"] for each in summary["chosen"]})
    count = len(summary["chosen"])
    chosen = f"mean of {count} candidates of {', '.join(families)}" if count > 1 else families[0]
    error = summary["metrics"]["rmsve"]["final"]["mean"] if truth else None
    rows.append([AUTO, number(error), "", chosen])
    if not truth:
        rows = [[*row[:1], *row[2:]] for row in rows]
    said = f"chosen by {summary['criterion']}: {chosen}"
    return [*table_lines(rows), "", said, *summary["notes"], *_warnings(summary)]


def _warnings(summary: Mapping[str, Any]) -> list[str]:
    """Return a line for each reason not to believe the values."""
    lines = []
    (constant,) = [row for row in summary["ranking"] if row["family"] == "constant"]
    low = constant["difference"][1]
    if low is None or not low > 0:
        lines.append("warning: the data cannot tell these values from a constant")
    return lines
