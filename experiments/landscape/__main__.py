"""Draw the landscape of f(·, θ_k) and of Φ: python -m experiments.landscape [--task NAME] …

One arm is trained; at chosen iterations the surfaces of both objectives are drawn side by side, and
their curvature over all of them. Source: Figures 1 and 2 of arXiv 2605.15530.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from experiments.landscape.figures import curvature_figure, surfaces_figure
from experiments.landscape.settings import LandscapeSettings, read_landscape_settings
from experiments.runs.command_line.processes import leave
from experiments.runs.command_line.program import main
from experiments.runs.folder.folder_contents import FIGURE
from experiments.runs.results.history import History
from experiments.runs.results.intervals import mean_interval
from experiments.runs.results.report import mean_with_interval, tensorboard_line
from experiments.train_supervised.build import SupervisedPlan
from experiments.train_supervised.measurement import measured_parameters
from experiments.train_supervised.metrics import run_problem
from experiments.train_supervised.run import Watch
from experiments.train_supervised.train import supervised_run
from neural_tdc.randomness import generator
from neural_tdc.stackelberg.landscape import Landscape, landscape, random_directions
from neural_tdc.types import Measurement

CURVATURE_FIGURE = "curvature.png"


def watcher(settings: LandscapeSettings, plan: SupervisedPlan) -> Watch:
    """Return what keeps the surfaces of the first seed at the chosen iterations."""
    coefficients = torch.linspace(-settings.span, settings.span, settings.grid, dtype=torch.float64)
    problem = run_problem(plan, 0)

    def watch(measurement: Measurement, extra: dict[str, Any]) -> None:
        if measurement.step not in settings.at or bool(measurement.diverged[0, 0]):
            return
        arm = plan.learning.arms[0]
        of_seed = measured_parameters(plan, measurement, arm)
        body, head, _ = tree_map(lambda leaf: leaf[0].double(), of_seed)
        # The same draws at every iteration: the plane moves with the body and does not turn.
        source = generator(settings.seed, "directions")
        first, second = random_directions(body, source, relative=True)
        found = landscape(problem, body, head, first, second, coefficients.to(head.device))
        kept = extra.setdefault("surfaces", {})
        kept[measurement.step] = {name: value.cpu() for name, value in found._asdict().items()}

    return watch


def sharpness(history: History, steps: Sequence[int]) -> list[str]:
    """Return a line an iteration and measure: all three curvatures, and where Φ is above f."""
    lines = []
    for step in steps:
        index = history.steps.tolist().index(step)
        for what, said in (("largest", "largest eigenvalue"), ("trace", "trace")):
            joint, frozen, reduced = (
                history.values(f"curvature/{of}_{what}")[index]
                for of in ("joint", "frozen", "reduced")
            )
            known = np.isfinite(joint) & np.isfinite(reduced)
            sharper = int((reduced > joint)[known].sum())
            lines.append(
                f"after {step:,} updates, {said}: f(·, θ_k) {_interval(joint)}, "
                f"f(·, θ*(W_k)) {_interval(frozen)}, Φ {_interval(reduced)}; "
                f"Φ above f(·, θ_k) in {sharper} of {int(known.sum())} seeds"
            )
    return lines


def _interval(values: np.ndarray) -> str:
    interval = mean_interval(values)
    return mean_with_interval({key: float(end) for key, end in interval._asdict().items()})


def turning_point(history: History) -> str:
    """Say at which measurements Φ's largest eigenvalue is above f's in most seeds."""
    joint, reduced = (history.values(f"curvature/{of}_largest") for of in ("joint", "reduced"))
    known = np.isfinite(joint) & np.isfinite(reduced)
    above = ((reduced > joint) & known).sum(1) * 2 > known.sum(1)
    steps = history.steps[above & known.any(1)].tolist()
    if not steps:
        return "Φ's largest eigenvalue is above f's in most seeds at no measured iteration"
    shown = ", ".join(map(str, steps[:12])) + (f", … {steps[-1]}" if len(steps) > 12 else "")
    return (
        f"Φ's largest eigenvalue is above f's in most seeds at {len(steps)} of "
        f"{int(known.any(1).sum())} measured iterations: {shown}"
    )


def _landscapes(kept: dict[int, dict[str, Tensor]]) -> dict[int, Landscape]:
    return {step: Landscape(**kept[step]) for step in sorted(kept)}


def draw_landscape(argv: Sequence[str]) -> None:
    """Run the program; see the module's description."""
    settings = read_landscape_settings(argv)
    with supervised_run(settings, argv, lambda plan: watcher(settings, plan)) as run:
        run.summaries()
        arm = run.plan.learning.arms[0]
        history = run.histories[arm]
        title = f"{settings.task}, {arm}, {settings.optimizer}, {settings.activation}"
        landscapes = _landscapes(run.extra.get("surfaces", {}))
        if landscapes:
            around = f"The plane W + a·U + b·V around the body: {title}"
            surfaces_figure(run.out / FIGURE, landscapes, around, settings.vector)
        curvature_figure(
            run.out / CURVATURE_FIGURE, history, f"Curvature in the body: {title}", settings.vector
        )
    for line in (*sharpness(history, sorted(landscapes)), turning_point(history)):
        print(line)
    print(f"figures: {run.out / FIGURE}, {run.out / CURVATURE_FIGURE}")
    print(f"watch:   {tensorboard_line(run.out)}")
    print(run.recorder.clock.line())


if __name__ == "__main__":
    leave(main(draw_landscape))
