"""Evaluate a fixed policy: python -m experiments.evaluate_policy --problem NAME --rule NAME …

Every rule learns from the same streams and is judged by the same truth. One rule's run is the
folder --out; of several each has a folder of its own in it, and --out has the common figure.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from agents.policy_evaluation import Task
from experiments.command_line import Stopped, UsageError, main, parse, resume_command
from experiments.evaluation_settings import (
    WORTH_COMPILING,
    Plan,
    Settings,
    plan,
    policies_in_words,
)
from experiments.figures import evaluation_figure
from experiments.history import History, MetricsFile, cut, read
from experiments.report import Progress, divergence_warning, table, tensorboard_line
from experiments.run_folder import (
    CHECKPOINT,
    CONFIG,
    FIGURE,
    METRICS,
    SUMMARY,
    check_folder,
    check_same_settings,
    claim,
    claim_several,
    configuration,
    folder_name,
    load_checkpoint,
    read_json,
    save_checkpoint,
    write_json,
)
from experiments.statistics import summary
from experiments.tensorboard_log import TensorBoardLog
from neural_tdc.algorithm import Algorithm, State
from neural_tdc.learner import (
    Measurement,
    compiler_available,
    divergence_limit,
    learn,
)
from neural_tdc.preparation import base_steps, prepare
from neural_tdc.schedules import schedule

PROGRAM = "python -m experiments.evaluate_policy"
# Seconds between two checkpoints of a running population.
CHECKPOINT_EVERY = 10.0
MAY_DIFFER = ("steps", "device")
# Numbers in a population's state below which one thread is faster than several.
WORTH_THREADS = 2**18


def _report(what: str, done: int, total: int) -> None:
    """Show how far the preparation is, where somebody watches."""
    if sys.stderr.isatty() and (done == total or done % max(1, total // 100) == 0):
        end = "\n" if done == total else ""
        print(f"\r{what}: {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)


def _compiled(settings: Settings, plan: Plan) -> tuple[bool, str | None]:
    """Decide whether to compile; the second value is a warning, if there is one."""
    if settings.compile == "off":
        return False, None
    available = compiler_available(plan.device)
    if settings.compile == "on" and not available:
        return False, "warning: --compile on: there is no C++ compiler here, so the run is eager"
    worth = settings.compile == "on" or plan.steps >= WORTH_COMPILING
    return available and worth, None


def _threads(prepared: dict[str, tuple[Algorithm, State]]) -> int:
    """Return how many threads a population is worth: small kernels lose more by waiting."""
    largest = max(
        sum(leaf.numel() for leaf in tree_flatten(state)[0]) for _, state in prepared.values()
    )
    return 1 if largest < WORTH_THREADS else torch.get_num_threads()


class Run:
    """One rule's run: what it writes while it learns, and where it goes on after a stop."""

    def __init__(
        self,
        name: str,
        folder: Path,
        settings: dict[str, Any],
        compiled: bool,
        algorithm: Algorithm,
        state: State,
        plan: Plan,
        task: Task,
    ) -> None:
        self.name, self.folder, self.settings = name, folder, settings
        self.algorithm, self.plan, self.task, self.compiled = algorithm, plan, task, compiled
        self.history = History()
        self.seconds = 0.0
        self.start = 0
        self.limit = divergence_limit(state.parameters)
        self.diverged: torch.Tensor | None = None
        self.state = state
        if (folder / CHECKPOINT).exists():
            self._load()
        self.base = base_steps(algorithm.rule, plan.step_sizes, task_runs(task), self.limit)
        self.base = type(self.base)(*(size.to(plan.dtype) for size in self.base))

    def _load(self) -> None:
        saved = load_checkpoint(self.folder / CHECKPOINT, self.plan.device)
        leaves, structure = tree_flatten(self.state)
        shapes = [tuple(leaf.shape) for leaf in leaves]
        if [tuple(leaf.shape) for leaf in saved.get("leaves", [])] != shapes:
            raise ValueError(
                f"{self.folder / CHECKPOINT} belongs to another rule or network than this run's"
            )
        self.state = tree_unflatten(saved["leaves"], structure)
        self.start, self.seconds = saved["step"], saved["seconds"]
        self.diverged, self.limit = saved["diverged"], saved["limit"]
        cut(self.folder / METRICS, self.start)
        self.history = read(self.folder / METRICS)

    def _save(self, last: Measurement) -> None:
        """Write a checkpoint, after what it relies on has reached the disk."""
        self.metrics.flush()
        self.log.flush()
        leaves, _ = tree_flatten(last.state)
        save_checkpoint(
            self.folder / CHECKPOINT,
            {
                "step": last.step,
                "seconds": self.seconds,
                "diverged": last.diverged,
                "limit": self.limit,
                "leaves": leaves,
            },
        )

    def learn(self) -> None:
        """Learn to the end, measuring, logging and saving; raises what stops it, all saved."""
        plan, task, settings = self.plan, self.task, self.settings
        if self.start >= plan.steps:
            return
        self.metrics = MetricsFile(self.folder / METRICS, self.history)
        self.log = TensorBoardLog(self.folder, self.start + 1 if self.start else None)
        factors = schedule(settings["schedule"])
        last: Measurement | None = None
        unsaved = False
        begun, before = time.perf_counter(), self.seconds
        saved_at = begun
        label = f"{self.name} on {task.name}"
        try:
            with Progress(label, plan.steps, task_runs(task), self.start) as progress:
                for last in learn(
                    self.algorithm,
                    self.state,
                    task.experience,
                    self.base,
                    factors,
                    plan.sampling,
                    task.judge(self.algorithm.features, self.algorithm.rule),
                    steps=plan.steps,
                    measure_every=settings["measure_every"],
                    limit=self.limit,
                    start=self.start,
                    diverged=self.diverged,
                    compiled=self.compiled,
                ):
                    unsaved = True
                    now = time.perf_counter()
                    self.seconds = before + now - begun
                    self._record(last, factors)
                    self.log.scalar(
                        "speed/run_steps_per_second",
                        (last.step - self.start) * task_runs(task) / (now - begun),
                        last.step,
                    )
                    progress.update(last.step, self._present_error())
                    if now - saved_at > CHECKPOINT_EVERY:
                        self._save(last)
                        saved_at, unsaved = now, False
                self.log.write_hparams(self._hparams(), self.history)
        finally:
            if last is not None and unsaved:
                self._save(last)
            self.metrics.close()
            self.log.close()

    def _record(self, measurement: Measurement, factors: Any) -> None:
        values = {name: value.numpy() for name, value in measurement.values.items()}
        at_step = factors(torch.tensor(measurement.step - 1))
        for name, base, factor in zip(self.base._fields, self.base, at_step):
            values[f"step_size/{name}"] = (base.double() * factor.to(base.device)).cpu().numpy()
        self.history.append(measurement.step, values, measurement.diverged.numpy())
        self.metrics.write()
        self.log.write(self.history)

    def _present_error(self) -> float | None:
        name = "error/rmsve" if "error/rmsve" in self.history.names else "error/rmspbe"
        present = self.history.values(name)[-1]
        return float(np.nanmean(present)) if np.isfinite(present).any() else None

    def _hparams(self) -> dict[str, Any]:
        left_out = ("out", "resume", "overwrite", "rule")
        kept = {name: value for name, value in self.settings.items() if name not in left_out}
        return {**kept, "rule": self.name}

    def summary(self) -> dict[str, Any]:
        """Write and return the summary of the finished run."""
        result = summary(
            self.history,
            problem=self.task.name,
            rule=self.name,
            steps=self.plan.steps,
            seed=self.settings["seed"],
            seconds=self.seconds,
        )
        write_json(self.folder / SUMMARY, result)
        return result


def task_runs(task: Task) -> int:
    """Return the size of the population."""
    return len(task.experience.lane)


def _stored(settings: Settings, plan: Plan) -> dict[str, Any]:
    """Return the settings as they are written down and compared on resume."""
    stored = asdict(settings)
    del stored["resume"], stored["overwrite"], stored["out"]
    stored["steps"] = plan.steps
    return stored


def _resumed(settings: Settings, stored: dict[str, Any], out: Path) -> dict[str, Any]:
    """Check a resumed run against its configuration and return what of it must stay."""
    check_same_settings(out, stored, MAY_DIFFER)
    config = read_json(out / CONFIG)
    if stored["steps"] < config["steps"]:
        raise UsageError(
            f"--steps {stored['steps']} is less than the {config['steps']} of the run in {out}; "
            "--resume may only make it longer"
        )
    return {name: config[name] for name in ("compiled", "pool")}


def evaluate_policy(argv: Sequence[str]) -> None:
    """Run the program; see the module's description."""
    settings = parse(Settings, argv, PROGRAM, Settings.__doc__ or "")
    checked = plan(settings)
    out = settings.out or Path("runs") / folder_name(settings.problem)
    single = len(checked.rules) == 1
    check_folder(out, settings.overwrite, settings.resume)
    compiled, warning = _compiled(settings, checked)
    stored = _stored(settings, checked)
    # i.i.d. draws come from a pool whose size a longer resumed run must not change.
    pool = checked.steps
    if settings.resume:
        kept = _resumed(settings, stored, out)
        compiled, pool = kept["compiled"], kept["pool"]
    for line in (*checked.warnings, *([warning] if warning else [])):
        print(line if line.startswith("warning") else f"warning: {line}", file=sys.stderr)

    transitions = checked.steps * (settings.batch if settings.sampling == "markov" else 1)
    task = checked.task(settings, pool if settings.sampling == "iid" else transitions, _report)
    prepared = {
        name: _prepared(name, rule, settings, checked, task) for name, rule in checked.rules.items()
    }
    print(f"{task.name}: {policies_in_words(checked.problem)}, on {checked.device}")
    for note in task.notes:
        print(note)

    torch.set_num_threads(_threads(prepared))
    config = configuration({**stored, "compiled": compiled, "pool": pool}, checked.device)
    if single:
        (name,) = checked.rules
        folders = {name: claim(out, settings.overwrite, settings.resume)}
    else:
        names = list(checked.rules)
        folders = claim_several(out, names, settings.overwrite, settings.resume)
        listed = [folder.name for folder in folders.values()]
        write_json(out / CONFIG, {**config, "folders": listed})
    runs = []
    try:
        for name, folder in folders.items():
            write_json(folder / CONFIG, {**config, "rule": [name]})
            run = Run(name, folder, stored, compiled, *prepared[name], checked, task)
            run.learn()
            runs.append(run)
            summaries = {run.name: run.summary() for run in runs}
            _draw(out, folders, runs, single, summaries)
    except KeyboardInterrupt:
        raise Stopped(f"stopped; go on with: {resume_command(PROGRAM, argv)}", 130) from None
    except OSError as error:
        said = error.strerror or str(error)
        raise Stopped(
            f"error: {said}; the last checkpoint is kept, go on with: "
            f"{resume_command(PROGRAM, argv)}"
        ) from error

    print(f"\n{table(summaries)}\n")
    for result in summaries.values():
        if line := divergence_warning(result):
            print(line, file=sys.stderr)
    print(f"figure: {out / FIGURE}")
    print(f"watch:  {tensorboard_line(out)}")


def _prepared(
    name: str, rule: Any, settings: Settings, plan: Plan, task: Task
) -> tuple[Algorithm, State]:
    if getattr(rule, "ordered", False) and task.truncates:
        raise UsageError(
            f"--rule {name} is defined for problems without truncation only: the time limit of "
            f"{task.name} cuts episodes"
        )
    try:
        return prepare(
            rule,
            plan.make_body,
            task.example,
            runs=settings.runs,
            seed=settings.seed,
            optimizer=plan.optimizer,
            constraint=settings.constraint,
            head=task.head,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _draw(
    out: Path,
    folders: dict[str, Path],
    runs: list[Run],
    single: bool,
    summaries: dict[str, Any],
) -> None:
    """Draw the figure of each run that is done and the common one."""
    histories = {run.name: run.history for run in runs}
    task, latest = runs[-1].task, runs[-1]
    title = f"Policy evaluation on {task.name}"
    evaluation_figure(
        folders[latest.name] / FIGURE, {latest.name: latest.history}, f"{title}: {latest.name}"
    )
    if not single:
        evaluation_figure(out / FIGURE, histories, title)
        write_json(out / SUMMARY, summaries)


if __name__ == "__main__":
    sys.exit(main(evaluate_policy))
