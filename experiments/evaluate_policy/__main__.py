"""Evaluate a fixed policy: python -m experiments.evaluate_policy --problem NAME [--rule NAME …]

Without a rule the best value function is searched for, see `experiments.evaluate_policy.best`.
Every rule learns from the same streams and is judged by the same truth. One rule's run is the
folder --out; of several each has a folder of its own in it, and --out has the common figure.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from agents.policy_evaluation import Task
from experiments.evaluate_policy.best import asks_for_best, find_best
from experiments.evaluate_policy.build import EvaluationPlan, evaluation_plan
from experiments.evaluate_policy.problems import policies_in_words
from experiments.evaluate_policy.run import EvaluationRun, try_update
from experiments.evaluate_policy.settings import EvaluationSettings, read_evaluation_settings
from experiments.runs.checks import UsageError, named
from experiments.runs.command_line import main, resumable
from experiments.runs.common_settings import stored
from experiments.runs.computing import compilation, threads_for
from experiments.runs.configuration import configuration
from experiments.runs.figures import evaluation_figure
from experiments.runs.files import write_json
from experiments.runs.report import divergence_warning, table, tensorboard_line
from experiments.runs.run_folder import (
    CONFIG,
    FIGURE,
    SUMMARY,
    check_folder,
    folder_name,
    prepare_folders,
    resumed_config,
)
from neural_tdc.learning.algorithm import Algorithm, State
from neural_tdc.learning.compilation import compiler_available
from neural_tdc.learning.preparation import prepare

# Below this many updates a compiled program does not win back the time of its compilation.
UPDATES_WORTH_COMPILING = 10_000


def _report(what: str, done: int, total: int) -> None:
    """Show how far the preparation is, where somebody watches."""
    if sys.stderr.isatty() and (done == total or done % max(1, total // 100) == 0):
        end = "\n" if done == total else ""
        print(f"\r{what}: {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)


def _compiled(settings: EvaluationSettings, plan: EvaluationPlan) -> tuple[bool, str | None]:
    """Decide whether to compile; the second value is a warning, if there is one."""
    worth = plan.steps >= UPDATES_WORTH_COMPILING
    available = compiler_available(plan.device)
    return compilation(settings.compile, worth=worth, available=available)


def _threads(prepared: dict[str, tuple[Algorithm, State]]) -> int:
    """Return the number of threads for the largest population."""
    sizes = (sum(leaf.numel() for leaf in tree_flatten(state)[0]) for _, state in prepared.values())
    return threads_for(max(sizes))


def _stored(settings: EvaluationSettings, plan: EvaluationPlan) -> dict[str, Any]:
    """Return the settings as they are written down and compared on resume."""
    # What the others follow from comes first: it is named first where it differs.
    first = {"problem": settings.problem, "data": settings.data}
    kept = {**first, **stored(settings), **plan.chosen(settings)}
    del kept["preset"]
    return kept


def evaluate_policy(argv: Sequence[str]) -> None:
    """Run the program; see the module's description."""
    if asks_for_best(argv):
        find_best(argv)
        return
    settings = read_evaluation_settings(argv)
    checked = evaluation_plan(settings)
    out = settings.out or Path("runs") / folder_name(settings.problem or checked.problem.name)
    single = len(checked.rules) == 1
    check_folder(out, settings.overwrite, settings.resume)
    compiled, warning = _compiled(settings, checked)
    kept = _stored(settings, checked)
    # i.i.d. draws come from a pool whose size a longer resumed run must not change.
    pool = checked.steps
    if settings.resume:
        before = resumed_config(out, kept, ("compiled", "pool"), settings.may_differ)
        compiled, pool = before["compiled"], before["pool"]
    for line in (*checked.idle_steps, *checked.warnings, *([warning] if warning else [])):
        print(line if line.startswith("warning") else f"warning: {line}", file=sys.stderr)

    task = checked.task(settings, pool, _report)
    prepared = {
        name: _prepared(name, rule, settings, checked, task) for name, rule in checked.rules.items()
    }
    if compiled and not settings.resume:
        compiled = _can_be_compiled(prepared, settings, checked, task)
    print(f"{task.name}: {policies_in_words(checked.problem)}, on {checked.device}")
    for note in task.notes:
        print(note)

    torch.set_num_threads(_threads(prepared))
    also = {"preset": settings.preset, "compiled": compiled, "pool": pool}
    config = configuration({**kept, **also}, checked.device)
    rules, overwrite, resume = list(checked.rules), settings.overwrite, settings.resume
    with (
        prepare_folders(out, rules, overwrite, resume) as folders,
        resumable(settings.program, argv),
    ):
        # All are read before anything is written: a checkpoint may turn out to be damaged.
        runs = [
            EvaluationRun(name, folder, kept, compiled, *prepared[name], checked, task)
            for name, folder in folders.items()
        ]
        if not single:
            listed = [folder.name for folder in folders.values()]
            write_json(out / CONFIG, {**config, "folders": listed})
        for number, run in enumerate(runs, start=1):
            write_json(run.folder / CONFIG, {**config, "rule": [run.name]})
            run.learn()
            summaries = {done.name: done.summary() for done in runs[:number]}
            _draw(out, runs[:number], single, summaries)

    print(f"\n{table(summaries)}\n")
    for result in summaries.values():
        if diverged := divergence_warning(result):
            print(diverged, file=sys.stderr)
    print(f"figure: {out / FIGURE}")
    print(f"watch:  {tensorboard_line(out)}")


def _prepared(
    name: str, rule: Any, settings: EvaluationSettings, plan: EvaluationPlan, task: Task
) -> tuple[Algorithm, State]:
    cut = task.truncates and not rule.defined_at_truncation
    if cut and settings.data is not None:
        raise UsageError(
            f"--rule {name} follows episodes to their ends: in {settings.data} some are truncated, "
            f"or it is gone through again by --steps {plan.steps} and ends within one"
        )
    if cut:
        raise UsageError(
            f"--rule {name} is defined for problems without truncation only: the time limit of "
            f"{task.name} cuts episodes"
        )

    def made() -> tuple[Algorithm, State]:
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

    own = _own_parts(name, settings)
    if not own:
        return made()
    with named(own):
        algorithm, state = made()
        try_update(algorithm, state, plan, task)
        return algorithm, state


def _own_parts(rule: str, settings: EvaluationSettings) -> str:
    """Return the flags that name parts of a run which are the user's own; "" without any."""
    flags = (f"--rule {rule}", f"--body {settings.body}")
    return " ".join(flag for flag in flags if ":" in flag)


def _can_be_compiled(
    prepared: dict[str, tuple[Algorithm, State]],
    settings: EvaluationSettings,
    plan: EvaluationPlan,
    task: Task,
) -> bool:
    """Try it with parts of the user's own; UsageError where --compile on asks for it in vain."""
    for name, (algorithm, state) in prepared.items():
        own = _own_parts(name, settings)
        if not own:
            continue
        try:
            try_update(algorithm, state, plan, task, compiled=True)
        except Exception as error:  # Whatever a compiler says of what has just run without it.
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            if settings.compile == "on":
                raise UsageError(f"--compile on: {own} cannot be compiled: {said}") from error
            print(f"warning: {own} runs without compilation: {said}", file=sys.stderr)
            return False
    return True


def _draw(
    out: Path,
    runs: list[EvaluationRun],
    single: bool,
    summaries: dict[str, Any],
) -> None:
    """Draw the figure of each run that is done and the common one."""
    histories = {run.name: run.history for run in runs}
    task, latest = runs[-1].task, runs[-1]
    title = f"Policy evaluation on {task.name}"
    evaluation_figure(
        latest.folder / FIGURE, {latest.name: latest.history}, f"{title}: {latest.name}"
    )
    if not single:
        evaluation_figure(out / FIGURE, histories, title)
        write_json(out / SUMMARY, summaries)


if __name__ == "__main__":
    sys.exit(main(evaluate_policy))
