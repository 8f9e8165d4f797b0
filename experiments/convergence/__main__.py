"""Measure rates of convergence: python -m experiments.convergence --out DIR

Descent on two time scales with steps that decay by the exponents of Theorems 3.6 and 3.7 of
arXiv 2605.15530 and with uniform steps, on instances whose Φ, θ*(W) and W* are known.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from experiments.convergence.settings import ConvergenceSettings
from experiments.runs.command_line import main, parse, resumable
from experiments.runs.common_settings import stored
from experiments.runs.configuration import configuration
from experiments.runs.files import write_json
from experiments.runs.history import History
from experiments.runs.intervals import Interval, statistic_interval
from experiments.runs.report import mean_with_interval, tensorboard_line
from experiments.runs.run_folder import (
    CONFIG,
    FIGURE,
    check_folder,
    prepare_folder,
    resumed_config,
)


def slope_interval(history: History, name: str, fit_from: int) -> Interval:
    """Return the slope of log mean over log updates from an update on, with its interval."""
    from experiments.convergence.rates import log_log_slope

    fitted = history.steps >= fit_from
    steps = torch.from_numpy(history.steps[fitted].astype(np.float64))
    return statistic_interval(
        history.values(name)[fitted],
        lambda means: log_log_slope(steps, torch.from_numpy(means)).numpy(),
    )


def _slopes(history: History, instances: Sequence[str], fit_from: int) -> dict[str, Any]:
    from experiments.convergence.run import QUANTITIES, SCHEDULES

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


def _slope_table(slopes: dict[str, Any]) -> str:
    from experiments.convergence.figures import PROMISED

    lines = [f"{'instance':<11}{'steps':<13}{'quantity':<10}{'slope [95 % interval]':<28}theorem"]
    for instance, of_instance in slopes.items():
        for schedule, of_schedule in of_instance.items():
            for quantity, entry in of_schedule.items():
                promised = PROMISED.get((schedule, quantity))
                bound = "–" if promised is None else f"{promised:.2f} or steeper"
                found = mean_with_interval(entry)
                lines.append(f"{instance:<11}{schedule:<13}{quantity:<10}{found:<28}{bound}")
    return "\n".join(lines)


def _structure_lines(curvature: dict[str, Any], ridge: dict[str, Any], kink: dict[str, Any]) -> str:
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


def convergence(argv: Sequence[str]) -> None:
    """Run the program; see the module's description."""
    settings = parse(ConvergenceSettings, argv)
    check_folder(settings.out, settings.overwrite, settings.resume)
    from experiments.convergence.figures import draw_convergence
    from experiments.convergence.run import INSTANCES, PACES, Descents, Pace
    from experiments.convergence.structure import kink, least_curvatures, without_ridge

    # Tensors of some hundred numbers: a second thread would only wait.
    torch.set_num_threads(1)
    fit_from = settings.fit_from or max(1, settings.steps // 20)
    paces = {
        name: Pace(settings.first_step or PACES[name].first, settings.offset or PACES[name].offset)
        for name in settings.instance
    }
    kept = stored(settings) | {
        "fit_from": fit_from,
        "paces": {name: list(pace) for name, pace in paces.items()},
    }
    if settings.resume:
        resumed_config(settings.out, kept, (), ())
    with (
        prepare_folder(settings.out, settings.overwrite, settings.resume) as folder,
        resumable(settings.program, argv),
    ):
        # All is read before anything is written: a checkpoint may turn out to be damaged.
        run = Descents(
            folder, paces, settings.runs, settings.steps, settings.seed, settings.smoothing
        )
        write_json(folder / CONFIG, configuration(kept))
        run.descend()
        slopes = _slopes(run.history, settings.instance, fit_from)
        structure = {
            "curvature": {name: least_curvatures(INSTANCES[name]()) for name in paces},
            "without_ridge": without_ridge(),
            "kink": kink(),
        }
        run.recorder.summaries(
            " ".join(settings.instance),
            settings.steps,
            settings.seed,
            **{"fit_from": fit_from, "slopes": slopes, **structure},
        )
        draw_convergence(folder / FIGURE, run.history, slopes, fit_from)
    print(f"\n{_slope_table(slopes)}")
    fitted = f"updates {fit_from:,} to {settings.steps:,}"
    print(f"slopes of the mean over {settings.runs} runs, {fitted}\n")
    print(_structure_lines(structure["curvature"], structure["without_ridge"], structure["kink"]))
    print(f"\nfigure: {folder / FIGURE}")
    print(f"watch:  {tensorboard_line(folder)}")


if __name__ == "__main__":
    sys.exit(main(convergence))
