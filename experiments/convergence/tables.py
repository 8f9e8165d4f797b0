"""The slopes that `experiments.convergence` finds, and its tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from experiments.convergence.descents import QUANTITIES, SCHEDULES
from experiments.convergence.rates import log_log_slope
from experiments.runs.results.history import History
from experiments.runs.results.intervals import Interval, statistic_interval
from experiments.runs.results.report import mean_with_interval

# The exponent that the theorem of that schedule promises for that quantity.
PROMISED = {
    ("theorem-3.6", "moreau"): -2 / 5,
    ("theorem-3.7", "body"): -2 / 3,
    ("theorem-3.7", "head"): -2 / 3,
}


def slope_interval(history: History, name: str, fit_from: int) -> Interval:
    """Return the slope of log mean over log updates from an update on, with its interval."""
    fitted = history.steps >= fit_from
    steps = torch.from_numpy(history.steps[fitted].astype(np.float64))
    return statistic_interval(
        history.values(name)[fitted],
        lambda means: log_log_slope(steps, torch.from_numpy(means)).numpy(),
    )


def all_slopes(history: History, instances: Sequence[str], fit_from: int) -> dict[str, Any]:
    """Return {instance: {schedule: {quantity: slope with its interval}}}."""

    def entry(name: str) -> dict[str, float]:
        interval = slope_interval(history, name, fit_from)
        return {key: float(value) for key, value in interval._asdict().items()}

    return {
        instance: {
            schedule: {
                quantity: entry(f"{instance}/{schedule}/{quantity}") for quantity in QUANTITIES
            }
            for schedule in SCHEDULES
        }
        for instance in instances
    }


def slope_table(slopes: dict[str, Any]) -> str:
    """Return the table of slopes with what the theorems promise."""
    lines = [f"{'instance':<11}{'steps':<13}{'quantity':<10}{'slope [95 % interval]':<28}theorem"]
    for instance, of_instance in slopes.items():
        for schedule, of_schedule in of_instance.items():
            for quantity, entry in of_schedule.items():
                promised = PROMISED.get((schedule, quantity))
                bound = "–" if promised is None else f"{promised:.2f} or steeper"
                found = mean_with_interval(entry)
                lines.append(f"{instance:<11}{schedule:<13}{quantity:<10}{found:<28}{bound}")
    return "\n".join(lines)


def structure_lines(curvature: dict[str, Any], ridge: dict[str, Any], kink: dict[str, Any]) -> str:
    """Return lines about the instances themselves: curvatures, Φ without a ridge, the kink."""
    lines = ["smallest eigenvalues of the Hessians, ∇²f in (W, θ) together and ∇²Φ:"]
    for name, of in curvature.items():
        lines.append(
            f"  {name}: ∇²f {of['joint_at_zero']:.3f} at 0, {of['joint_at_start']:.3f} at the "
            f"start, {of['joint_at_minimum']:.3f} at W*; ∇²Φ {of['reduced_at_start']:.3f} at the "
            f"start, {of['reduced_at_minimum']:.3f} at W*"
        )
    for name, of in ridge.items():
        lines.append(
            f"Φ of the chain over random bodies, {name}: {of['least']:.2g} to {of['largest']:.2g}"
        )
    lines.append(
        f"ReLU's kink: slopes {kink['left_slope']:.4f} and {kink['right_slope']:.4f}, in closed "
        f"form 0 and {kink['right_slope_in_closed_form']:.4f}"
    )
    return "\n".join(lines)
