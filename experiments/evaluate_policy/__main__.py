"""Evaluate a fixed policy: python -m experiments.evaluate_policy --problem NAME [--rule NAME …]

Every rule learns from the same streams and is measured by the same truth; auto, the default, is the
search for the best value function. One rule's run is the folder --out; of several each has a
folder of its own in it, and --out has the common figure.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.evaluate_policy.in_turn import learn_in_turn
from experiments.evaluate_policy.learning.method_run import MethodRun
from experiments.evaluate_policy.learning.rule_run import EvaluationRun
from experiments.evaluate_policy.learning.search import SearchRun
from experiments.evaluate_policy.learning.shared import Beginning, Shared
from experiments.evaluate_policy.learning.streams import first_stream
from experiments.evaluate_policy.parts.algorithms import (
    can_be_compiled,
    compiles,
    prepared_rules,
    scale_of_rewards,
    use_threads_for,
)
from experiments.evaluate_policy.parts.plan import EvaluationPlan, evaluation_plan
from experiments.evaluate_policy.parts.problems import experience_flags, policies_in_words
from experiments.evaluate_policy.results.final_report import Run, add_controls, print_results
from experiments.evaluate_policy.results.values_at import check_components
from experiments.evaluate_policy.settings.evaluation_settings import (
    AUTO,
    EvaluationSettings,
    check_same_end,
    read_evaluation_settings,
)
from experiments.runs.command_line.checks import named
from experiments.runs.command_line.common_settings import stored
from experiments.runs.command_line.computing import keep_memory, limit_threads
from experiments.runs.command_line.processes import leave
from experiments.runs.command_line.program import main, resumable
from experiments.runs.folder.configuration import configuration
from experiments.runs.folder.folder_contents import folder_name
from experiments.runs.folder.run_folder import check_folder, prepare_folders
from experiments.runs.folder.same_settings import resumed_config
from experiments.runs.results.phases import PhaseClock
from experiments.runs.results.progress import PartsProgress
from experiments.runs.results.style import import_matplotlib
from neural_tdc.compiled.private_compiler import import_compiler
from neural_tdc.compiled.program_key import program_key
from neural_tdc.compiled.program_store import everything_stored, mark, marked
from neural_tdc.learning.reward_scale import AUTO_SCALE


def _stored(settings: EvaluationSettings, plan: EvaluationPlan) -> dict[str, Any]:
    """Return the settings as they are written down and compared on resume."""
    # What the others follow from comes first: it is named first where it differs.
    first = {"problem": settings.problem, "data": settings.data}
    kept = {**first, **stored(settings), **plan.chosen(settings)}
    del kept["preset"]
    return kept


def evaluate_policy(argv: Sequence[str]) -> None:
    """Run the program; see the module's description."""
    clock = PhaseClock()
    settings = read_evaluation_settings(argv)
    limit_threads()
    keep_memory()
    plan = evaluation_plan(settings)
    out = settings.out or Path("runs") / folder_name(settings.problem or plan.problem.name)
    check_folder(out, settings.overwrite, settings.resume)
    compiled, warning = compiles(settings, plan)
    kept = _stored(settings, plan)
    pool, before = plan.steps, None
    if settings.resume:
        before = resumed_config(out, kept, Beginning._fields, settings.may_differ)
        compiled, pool = before["compiled"], before["pool"]
        check_same_end(settings, plan.steps, before["steps"])
    for line in (*plan.idle_steps, *plan.warnings, *([warning] if warning else [])):
        print(line if line.startswith("warning") else f"warning: {line}", file=sys.stderr)

    report = PartsProgress()

    def on_progress(what: str, done: int, total: int) -> None:
        clock.switch("truth" if what == "truth" else "experience")
        report(what, done, total)

    # Another seed has the same programs.
    asked = str({name: value for name, value in kept.items() if name != "seed"})
    command = program_key(asked, {})

    def meanwhile() -> None:
        with clock.phase("compile"):
            if compiled and not (command and marked(command)):
                import_compiler()
        with clock.phase("write"):
            import_matplotlib()

    clock.switch("experience")
    task = plan.task(settings, pool, on_progress, meanwhile)
    check_components(settings.value_dimensions, task)
    prepared = prepared_rules(settings, plan, task)
    flags = experience_flags(settings)
    with named(flags):
        stream = first_stream(plan, task) if AUTO in settings.rule else None
    clock.switch("compile")
    if compiled and not settings.resume:
        compiled = can_be_compiled(prepared, settings, plan, task)
    clock.switch("write")
    print(f"{task.name}: {policies_in_words(plan.problem)}, on {plan.device}")
    for note in task.notes:
        print(note)
    scale = scale_of_rewards(settings, task) if before is None else before["rewards_divided_by"]
    if settings.reward_scale == AUTO_SCALE:
        print(f"rewards are divided by {scale:.4g}, the scale of their returns, for learning")

    cores = torch.get_num_threads()
    use_threads_for(prepared)
    shared = Shared(kept, plan, task, flags, report, clock, cores)
    beginning = Beginning(compiled, pool, scale)

    def made(name: str, folder: Path) -> Run:
        if stream is not None and name == AUTO:
            return SearchRun(folder, shared, stream, cores)
        if name in plan.methods:
            return MethodRun(name, folder, shared)
        return EvaluationRun(name, folder, shared, beginning, *prepared[name])

    added = {"preset": settings.preset, **beginning._asdict()}
    config = configuration({**kept, **added}, plan.device)
    with (
        prepare_folders(out, settings.rule, settings.overwrite, settings.resume) as folders,
        resumable(settings.program, argv, out),
    ):
        # All are read before anything is written: a checkpoint may turn out to be damaged.
        runs = [made(name, folder) for name, folder in folders.items()]
        summaries = learn_in_turn(out, runs, config, settings, cores)
    if compiled and command and everything_stored():
        mark(command)
    controls = add_controls(out, runs, summaries)
    print_results(settings, out, runs, summaries, controls)
    print(clock.line())


if __name__ == "__main__":
    leave(main(evaluate_policy))
