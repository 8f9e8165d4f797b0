"""Choose the presets: python -m benchmarks.presets.

Every family of settings (`benchmarks.presets.candidates`) learns on every problem of its kind, all
its step sizes as one population. The error of a setting is RMSVE after the last update, divided by
the standard deviation of the true values over states; it is the geometric mean over runs. A setting
is compared by its error relative to the best setting of its purpose on the same problem, as the
geometric mean over problems. A setting with a diverged run is left out. The problems of
`benchmarks.accuracy` are not used.
"""

import json
import math
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from agents.policy_evaluation import chain_task, control_task
from agents.task import Task
from benchmarks.command_line import CommandLine, whole_number
from benchmarks.presets.candidates import FAMILIES, Family, problems_of
from envs.control.problems import control_problem
from envs.finite.standard_problems import is_finite_problem, problem
from neural_tdc.learning.learner import divergence_limit, learn
from neural_tdc.learning.optimisers import part_optimizers
from neural_tdc.learning.preparation import prepare
from neural_tdc.learning.reward_scale import scale_of_returns
from neural_tdc.learning.sampling import in_segments, sampling_scheme
from neural_tdc.learning.schedules import schedule
from neural_tdc.networks.bodies import mlp
from neural_tdc.rules.registry import RULES
from neural_tdc.types import StepSizes, mapped

RUNS, SEED = 2, 0
# What evaluate_policy takes where no width is given.
WIDTH = 16


def made_task(name: str, target: Any, behaviour: Any, transitions: int) -> Task:
    """Return a problem with streams of its own for every run."""
    if is_finite_problem(name):
        mdp = problem(name)
        return chain_task(mdp, given=False, runs=RUNS, transitions=transitions, seed=SEED)
    made = control_problem(name, target, behaviour)
    return control_task(made, runs=RUNS, transitions=transitions, seed=SEED, held_out_size=1000)


def errors(family: Family, task: Task, updates: int, hidden: tuple[int, ...]) -> list[float]:
    """Return the error of each of a family's step sizes, infinite where a run diverged."""
    kind, batch, length = family.sampling
    sampling = sampling_scheme(kind, batch=batch, sequence_length=length)
    rule = RULES[family.rule]
    if in_segments(sampling):
        rule = rule.with_lambda_returns(family.decay)
    width = WIDTH if task.states is None else task.states // 2
    body = partial(mlp, features=width, hidden=hidden, constant=True)
    algorithm, state = prepare(
        rule,
        body,
        task.example,
        runs=RUNS,
        seed=SEED,
        optimizers=part_optimizers(family.optimizer),
    )
    count = len(family.steps)
    state = torch.utils._pytree.tree_map(
        lambda leaf: leaf.repeat(count, *([1] * (leaf.dim() - 1))), state
    )
    experience = task.experience._replace(
        stream_index=task.experience.stream_index.repeat(count),
        key=task.experience.key.repeat(count),
    )
    columns = torch.tensor(family.steps).T
    sizes = rule.step_sizes(StepSizes(*(each.repeat_interleave(RUNS) for each in columns)))
    *_, last = learn(
        algorithm,
        state,
        experience,
        sizes,
        schedule(family.schedule, updates),
        sampling,
        task.evaluator(algorithm.features, algorithm.rule),
        steps=updates,
        measured=[updates],
        limit=divergence_limit(state.parameters),
        compiled=True,
        reward_scale=scale_of_returns(mapped(experience.transitions, lambda leaf: leaf[0])),
    )
    truth = task.truth
    assert truth is not None
    mean = (truth.weighting * truth.value).sum()
    spread = float((truth.weighting * (truth.value - mean).square()).sum().sqrt())
    found = last.values["error/rmsve"].reshape(count, RUNS)
    logarithms = (found / spread).clamp(min=1e-9).log().mean(1)
    return [math.inf if math.isnan(each) else math.exp(each) for each in logarithms.tolist()]


def ranking(results: list[dict[str, Any]], purpose: str) -> list[tuple[float, str, list[float]]]:
    """Return (mean relative error, setting, its errors) of a purpose, the best first."""
    of_purpose = [each for each in results if each["purpose"] == purpose]
    problems = list(dict.fromkeys(each["problem"] for each in of_purpose))
    settings: dict[str, dict[str, float]] = {}
    for each in of_purpose:
        for steps, error in zip(each["steps"], each["errors"]):
            name = f"{each['family']}: " + ", ".join(f"{size:.3g}" for size in steps)
            settings.setdefault(name, {})[each["problem"]] = error
    least = {name: min(each[name] for each in settings.values()) for name in problems}
    found = []
    for name, by_problem in settings.items():
        ratios = [by_problem[each] / least[each] for each in problems]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if all(ratios) else math.inf
        found.append((mean, name, [by_problem[each] for each in problems]))
    return sorted(found)


def main(purposes: Iterable[str] = ("fast", "accurate", "off-policy", "paper")) -> None:
    """Run the missing jobs and print the best settings of each purpose."""
    parser, number, names = CommandLine("presets", __doc__), whole_number(), list(purposes)
    parser.add_argument(
        "--purpose", nargs="+", default=names, choices=names, help="presets to choose"
    )
    parser.add_argument(
        "--updates", type=number, default=10_000, help="updates, and transitions, of a run"
    )
    parser.add_argument(
        "--hidden", type=number, nargs="+", default=[64], help="units of each hidden layer"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/presets-choice"), help="folder of the results"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    tasks: dict[Any, Task] = {}
    results = []
    for index, family in enumerate(FAMILIES):
        for name, target, behaviour in problems_of(family):
            label = name + (f" ({behaviour} behaviour)" if behaviour else "")
            path = arguments.out / f"{index}-{label.replace(' ', '-')}.json"
            if family.purpose not in arguments.purpose:
                continue
            if not path.exists():
                begun = time.perf_counter()
                key = (name, target, behaviour)
                if key not in tasks:
                    tasks[key] = made_task(*key, arguments.updates)
                found = errors(family, tasks[key], arguments.updates, tuple(arguments.hidden))
                told: dict[str, Any] = {
                    "family": family.name,
                    "purpose": family.purpose,
                    "problem": label,
                }
                told |= {"steps": family.steps, "errors": found}
                path.write_text(json.dumps({**told, "seconds": time.perf_counter() - begun}))
                print(f"{family.name} on {label}: {time.perf_counter() - begun:.0f} s", flush=True)
            results.append(json.loads(path.read_text()))
    for purpose in arguments.purpose:
        problems = dict.fromkeys(each["problem"] for each in results if each["purpose"] == purpose)
        print(f"\n{purpose}: error relative to the best, setting, errors on {', '.join(problems)}")
        for mean, name, by_problem in ranking(results, purpose)[:8]:
            print(f"  {mean:.2f}  {name}  [{', '.join(f'{each:.3f}' for each in by_problem)}]")


if __name__ == "__main__":
    main()
