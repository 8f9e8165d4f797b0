"""The best value function of a problem or a log: evaluate_policy without --rule.

Many candidates learn from the same transitions and are chosen without a truth, see
`neural_tdc.best_value`. Where a truth is known it is printed next to the choice, never used for it.
"""

import io
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import torch

from agents.policy_evaluation import Task, chain_task, control_task, logged_task
from envs.finite.finite_mdp import FiniteMDP
from envs.logs.logged_problem import LoggedProblem
from experiments.evaluate_policy.build import GYMNASIUM_STEPS
from experiments.evaluate_policy.choice import (
    AUTO,
    choice_figure,
    choice_lines,
    choice_summary,
    saved_choice,
)
from experiments.evaluate_policy.data import logged
from experiments.evaluate_policy.problems import (
    Problem,
    made_problem,
    policies_in_words,
    problem_flags,
)
from experiments.evaluate_policy.settings import EvaluationSettings
from experiments.runs.checks import UsageError, named
from experiments.runs.command_line import flag_names, parse
from experiments.runs.configuration import configuration
from experiments.runs.files import write_bytes, write_json
from experiments.runs.requirements import above, count, from_to
from experiments.runs.run_folder import (
    CONFIG,
    FIGURE,
    SUMMARY,
    VALUE,
    check_folder,
    folder_name,
    prepare_folder,
)
from experiments.runs.settings import CheckedSettings, setting_fields
from neural_tdc.baselines.log_preparation import ordered_stream, parts_of
from neural_tdc.best_value import FOLDS, best_value
from neural_tdc.tensor_file import save_tensors
from neural_tdc.types import Transition, mapped


@dataclass(frozen=True, kw_only=True)
class BestSettings(CheckedSettings):
    """Find the best value function of a policy: many candidates, chosen without a truth."""

    program: ClassVar[str] = "python -m experiments.evaluate_policy"

    problem: str | None = None
    """A problem's name, or module:function that returns a FiniteMDP or makes an environment."""
    data: str | None = None
    """In place of --problem: an .npz file of logged data."""
    policy: str | None = None
    """The policy to evaluate, as with --rule."""
    behaviour: str | None = None
    """The policy that acts, as with --rule."""
    gamma: Annotated[float | None, from_to(0, 1)] = None
    """Discount γ in [0, 1]; the problem's own if not given."""
    steps: Annotated[int | None, count(1)] = None
    """Transitions to collect; the problem's usual number if not given."""
    budget: Annotated[float | None, above(0)] = None
    """Seconds for learning; fewer updates are made where they would take longer."""
    updates: Annotated[int, count(0)] = 8_000
    """Updates of the networks among the candidates; 0 for none."""
    truth_states: Annotated[int, count(1)] = 200
    """Gymnasium problems: states at which the true value is estimated by Monte Carlo."""
    truth_rollouts: Annotated[int, count(2)] = 8
    """Gymnasium problems: returns averaged at each of these states, at least 2."""
    seed: Annotated[int, count(0)] = 0
    """Seed of everything; with --budget the speed of the machine has a part in the result too."""
    out: Path | None = None
    """Folder of the run; runs/PROBLEM if not given."""
    overwrite: bool = False
    """Replace a run in --out."""

    def __post_init__(self) -> None:
        """Check every field, and what several of them say together."""
        super().__post_init__()
        if (self.problem is None) == (self.data is None):
            raise UsageError("give either --problem or --data; see --help")
        if self.data is not None and self.steps is not None:
            raise UsageError("--steps has no effect with --data: all of it is learned from")


def asks_for_best(argv: Sequence[str]) -> bool:
    """Return whether a command line names no rule, no preset and asks for no help."""
    return (
        bool(argv)
        and {"--help", "--rule", "--preset"}.isdisjoint(flag_names(argv))
        and ("-h" not in argv)
    )


def find_best(argv: Sequence[str]) -> None:
    """Collect or read transitions, find the best value function, and write it into a run folder."""
    of_rules = {each.flag for each in setting_fields(EvaluationSettings).values()}
    known = {each.flag for each in setting_fields(BestSettings).values()}
    for flag in sorted(flag_names(argv) & of_rules - known):
        raise UsageError(
            f"{flag} needs --rule: without a rule the best value function is searched for, with "
            f"{', '.join(sorted(known))}"
        )
    settings = parse(BestSettings, argv)
    problem = _problem(settings)
    out = settings.out or Path("runs") / folder_name(settings.problem or problem.name)
    check_folder(out, settings.overwrite)
    seconds: dict[str, float] = {}
    clock = time.perf_counter()
    task, stream = _task(settings, problem)
    seconds["experience and truth"] = time.perf_counter() - clock
    flags = problem_flags(_common(settings)) or f"--data {settings.data}"
    with named(flags):
        # What is too little to choose from fails before a folder is made.
        parts_of(ordered_stream(stream), FOLDS)
    print(f"{task.name}: {policies_in_words(problem)}")
    for note in task.notes:
        print(note)
    with prepare_folder(out, settings.overwrite):
        stored = {**asdict(settings), "rule": [AUTO], "gamma": problem.discount}
        del stored["out"], stored["overwrite"]
        write_json(out / CONFIG, configuration(stored, torch.device("cpu")))
        with named(flags):
            best = best_value(
                stream,
                seed=settings.seed,
                updates=settings.updates,
                budget=settings.budget,
                on_progress=_show,
            )
        seconds.update(best.seconds)
        content = io.BytesIO()
        save_tensors(saved_choice(best, task), content)
        write_bytes(out / VALUE, content.getvalue())
        result = choice_summary(best, task, stream, settings.seed, seconds)
        write_json(out / SUMMARY, result)
        choice_figure(out / FIGURE, best, task)
    for line in choice_lines(best, task, len(stream.reward)):
        print(line)
    print(f"figure: {out / FIGURE}")
    print(f"value:  neural_tdc.load_value({str(out)!r})")


def _common(settings: BestSettings) -> EvaluationSettings:
    """Return settings of the program with rules that say the same of the problem; any rule does."""
    return EvaluationSettings(
        problem=settings.problem,
        data=settings.data,
        policy=settings.policy,
        behaviour=settings.behaviour,
        gamma=settings.gamma,
        rule=("td",),
    )


def _problem(settings: BestSettings) -> Problem:
    if settings.data is not None:
        return logged(_common(settings), settings.data)
    return made_problem(_common(settings), settings.problem or "")


def _task(settings: BestSettings, problem: Problem) -> tuple[Task, Transition]:
    """Make the problem ready and return its one stream, [time, …]; observations as in the task."""
    steps, seed = settings.steps or GYMNASIUM_STEPS, settings.seed
    if isinstance(problem, LoggedProblem):
        with named(f"--data {settings.data}"):
            task = logged_task(problem, runs=1, seed=seed)
        stream = mapped(problem.transition, lambda leaf: leaf[0])
        shift, scale = task.shift, task.scale
        if shift is not None and scale is not None:
            stream = stream._replace(
                observation=(stream.observation - shift) / scale,
                next_observation=(stream.next_observation - shift) / scale,
            )
        # All of the log is learned from, and every part of it held out once.
        return task._replace(notes=problem.notes), stream
    if isinstance(problem, FiniteMDP):
        steps = settings.steps or problem.steps
        task = chain_task(problem, given=False, runs=1, transitions=steps, seed=seed)
        rows = mapped(task.experience.transitions, lambda leaf: leaf[0])
        table = task.experience.table
        assert table is not None
        return task, rows._replace(
            observation=table[rows.observation.long()],
            next_observation=table[rows.next_observation.long()],
        )
    with named(problem_flags(_common(settings))):
        task = control_task(
            problem,
            runs=1,
            transitions=steps,
            seed=seed,
            states=settings.truth_states,
            rollouts=settings.truth_rollouts,
            on_progress=_show,
        )
    return task, mapped(task.experience.transitions, lambda leaf: leaf[0])


def _show(what: str, done: int, total: int) -> None:
    if sys.stderr.isatty() and (done == total or done % max(1, total // 100) == 0):
        end = "\n" if done == total else ""
        print(f"\r{what}: {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)
