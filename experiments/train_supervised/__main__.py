"""Train at split learning rates: python -m experiments.train_supervised --task NAME …

All arms × seeds learn as one population, from the same initial networks and on the same batches.
One arm's run is the folder --out; of several each has a folder of its own in it, and --out has the
common figure, summary and checkpoint.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.runs.command_line import main, resumable
from experiments.runs.figures import Panel, evaluation_figure
from experiments.runs.history import History
from experiments.runs.intervals import Interval, paired_difference
from experiments.runs.phases import PhaseClock
from experiments.runs.report import divergence_warning, mean_with_interval, table, tensorboard_line
from experiments.runs.run_folder import FIGURE, check_folder, prepare_folders, resumed_config
from experiments.runs.statistics import auc
from experiments.train_supervised.build import (
    SupervisedPlan,
    default_folder,
    supervised_plan,
    threads,
)
from experiments.train_supervised.run import SupervisedRun
from experiments.train_supervised.settings import SupervisedSettings, read_supervised_settings
from neural_tdc.stackelberg.barzilai_borwein import rate_norm_correlation

TABLE_COLUMNS = (
    ("test accuracy", "test_accuracy", "final"),
    ("test RMSE", "test_rmse", "final"),
    ("test loss", "test_loss", "final"),
    ("train loss", "train_loss", "final"),
    ("AUC test loss", "test_loss", "auc"),
    ("lag of the head", "tracking_error_head", "final"),
)
PANELS = (
    Panel("train/loss", "Training loss", "mean loss"),
    Panel("test/loss", "Test loss", "mean loss"),
    Panel("test/accuracy", "Test accuracy", "fraction correct"),
    Panel("test/rmse", "Test error", "RMSE (units of the target)"),
    Panel("tracking_error/head", "Lag of the head", r"RMS of $Z(\theta-\theta^*)$"),
    Panel("curvature/joint_largest", r"Curvature of $f(\cdot,\theta_k)$", "largest eigenvalue"),
    Panel("curvature/reduced_largest", r"Curvature of $\Phi$", "largest eigenvalue"),
)
NOTES = {"cifar10": "images as they are in --data; say beside any number which copies they are"}


@contextlib.contextmanager
def supervised_run(
    settings: SupervisedSettings,
    argv: Sequence[str],
    watched: Callable[[SupervisedPlan], Any] | None = None,
) -> Iterator[SupervisedRun]:
    """Run checked settings in their folder to the end, and keep the folder for what follows.

    watched: makes what looks at every measurement, see `SupervisedRun.learn`
    Raises Stopped after Ctrl-C and SIGTERM, all saved.
    """
    clock = PhaseClock()
    out = default_folder(settings)
    check_folder(out, settings.overwrite, settings.resume)
    clock.switch("experience")
    made = supervised_plan(settings)
    clock.switch("write")
    compiled = made.compiled
    if settings.resume:
        compiled = resumed_config(out, made.stored, ("compiled",), settings.may_differ)["compiled"]
    torch.set_num_threads(threads(made))
    arms, overwrite, resume = settings.arm, settings.overwrite, settings.resume
    with (
        prepare_folders(out, arms, overwrite, resume, one_checkpoint=True) as folders,
        resumable(settings.program, argv),
    ):
        # All is read before anything is written: a checkpoint may turn out to be damaged.
        run = SupervisedRun(made, out, folders, compiled, clock)
        run.write_configuration()
        run.learn(watched(made) if watched else None)
        yield run


def present_panels(histories: Mapping[str, History]) -> list[Panel]:
    """Return the panels for which something was measured."""
    return [
        panel
        for panel in PANELS
        if any(
            panel.metric in history.names and np.isfinite(history.values(panel.metric)).any()
            for history in histories.values()
        )
    ]


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


def _unsolved(run: SupervisedRun) -> str | None:
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
        f"--response-tolerance {tolerance:.1e}; lags and the arm limit are off by as much"
    )


def _draw(run: SupervisedRun, title: str) -> Path:
    histories = run.histories
    panels = present_panels(histories)
    for arm, folder in run.folders.items():
        if len(run.folders) > 1:
            evaluation_figure(folder / FIGURE, {arm: histories[arm]}, f"{title}: {arm}", panels)
    evaluation_figure(run.out / FIGURE, histories, title, panels)
    return run.out / FIGURE


def train_supervised(argv: Sequence[str]) -> None:
    """Run the program; see the module's description."""
    settings = read_supervised_settings(argv)
    with supervised_run(settings, argv) as run:
        summaries: dict[str, Any] = run.summaries()
        figure = _draw(run, f"Learning rates of body and head: {settings.task}")
    print(f"\n{table(summaries, TABLE_COLUMNS, 'arm')}\n")
    if settings.task in NOTES:
        print(NOTES[settings.task])
    for line in (*comparisons(run.histories), *correlations(run.histories)):
        print(line)
    for result in summaries.values():
        if diverged := divergence_warning(result):
            print(diverged, file=sys.stderr)
    if unsolved := _unsolved(run):
        print(unsolved, file=sys.stderr)
    print(f"figure: {figure}")
    print(f"watch:  {tensorboard_line(run.out)}")
    print(run.recorder.clock.line())


if __name__ == "__main__":
    sys.exit(main(train_supervised))
