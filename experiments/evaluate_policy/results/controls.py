"""Controls of learned values: worse than a constant, or still at 0."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from agents.task import Task
from experiments.evaluate_policy.results.values_at import (
    data_observations,
    truth_states,
    values_at,
)
from experiments.runs.results.report import number
from neural_tdc.baselines.lambda_returns import discounted_returns
from neural_tdc.types import mapped
from neural_tdc.value_function import ValueFunction

# Values below this part of the true ones, or of the returns, have not left 0.
_LEFT = 0.1


def value_control(
    summary: Mapping[str, Any], value: ValueFunction, task: Task
) -> dict[str, float | None]:
    """Return what `summary.json` holds under `control`, of a rule of which a run survived.

    spread:      standard deviation of the true values, the RMSVE of the best constant; None without
        a truth
    relative:    final RMSVE / spread; None without a truth, or where all true values are alike
    size:        root mean square of the values learned, where the truth is known or in the data
    expected:    root mean square of the true values there, or of the returns in the data
    """
    truth = task.truth
    if truth is None:
        stream = mapped(task.experience.transitions, lambda leaf: leaf[0].cpu().double())
        returns = discounted_returns(stream)
        # Where no return is complete, as far as they are seen.
        seen = returns.value[returns.complete] if bool(returns.complete.any()) else returns.value
        expected = float(seen.square().mean().sqrt())
        in_data = values_at(value, data_observations(task), task).learned
        size = float((in_data**2).mean() ** 0.5)
        return {
            "spread": None,
            "relative": None,
            "size": size,
            "expected": expected,
        }
    learned = torch.from_numpy(values_at(value, truth_states(task, truth), task).learned)
    weighting, true = truth.weighting.double().cpu(), truth.value.double().cpu()
    mean = float(weighting @ true)
    spread = float(weighting @ (true - mean).square()) ** 0.5
    error = summary["metrics"]["rmsve"]["final"]["mean"]
    # Below this the spread is the rounding of the true values.
    known = error is not None and spread > 1e-9 * abs(mean)
    return {
        "spread": spread,
        "relative": error / spread if known else None,
        "size": float(weighting @ learned.square()) ** 0.5,
        "expected": math.hypot(mean, spread),
    }


def control_lines(controls: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines to print of all rules: relative errors in one, then warnings."""
    known = {name: row for name, row in controls.items() if row["relative"] is not None}
    lines = []
    if known:
        spread = next(iter(known.values()))["spread"]
        listed = ", ".join(f"{name} {row['relative']:.2f}" for name, row in known.items())
        what = f"RMSVE / standard deviation of the true values ({number(spread)})"
        lines.append(f"{what}: {listed}; 1 is the best constant")
    for name, row in controls.items():
        still = row["size"] < _LEFT * row["expected"]
        if row["relative"] is not None and row["relative"] > 1:
            lines.append(f"warning: {name}: its values are worse than the best constant")
        if still:
            what = "returns in the data" if row["spread"] is None else "true values"
            sizes = number(row["size"]), number(row["expected"])
            lines.append(
                f"warning: {name}: V is close to 0: its root mean square is {sizes[0]}, that of "
                f"the {what} {sizes[1]}"
            )
    return lines
