"""A population of DQN runs, compared with one run at a time: python -m benchmarks.dqn_population.

Both learn the same problem with the same network, in alternating time windows of one call. A
run-step is one agent step of one run, with its environment and its share of the updates. CPU time
is that of the processes that learn, so other programs disturb it less than wall time. With
--processes the runs of the population are divided among processes, as by compare_dqn --parallel.
"""

import argparse
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.dqn.learner import Learner, make_auxiliary
from agents.dqn.members import DQNMember
from agents.dqn.objectives import CONTROL_RULES, QObjective
from agents.dqn.optimizers import make_optimizer
from agents.dqn.population import DQNPopulation
from agents.dqn.q_network import QNetwork, make_network
from agents.dqn.replay import Replay
from agents.dqn.stacked_learner import MemberRates
from agents.dqn.stacked_replay import StackedReplay
from agents.dqn.training import Training, TrainingSchedule
from benchmarks.command_line import CommandLine, result_file, whole_number, write_results
from envs.games.discrete_control import MINATAR, GymnasiumEnvironments, control, minatar

CAPACITY, STARTS = 20_000, 100
RATES = MemberRates(1e-3, 2.5e-3, 2.5e-3)


def _games(problem: str, count: int) -> GymnasiumEnvironments:
    return (minatar if problem.startswith(MINATAR) else control)(problem, count)


def _network(options: argparse.Namespace, games: GymnasiumEnvironments, seed: int) -> QNetwork:
    name = "paper" if options.problem.startswith(MINATAR) else "mlp"
    return make_network(
        name,
        games.frame_shape,
        games.actions,
        seed=seed,
        scale=games.scale,
        features=options.features,
        hidden=(options.hidden,),
    )


def population(
    options: argparse.Namespace, objective: QObjective, seeds: range | None = None
) -> DQNPopulation:
    """Make runs that learn together: those of some seeds, or all of them."""
    seeds = range(options.runs) if seeds is None else seeds
    games = _games(options.problem, len(seeds))
    made = DQNPopulation(
        [DQNMember(seed, objective, RATES) for seed in seeds],
        lambda seed: _network(options, games, seed),
        games,
        StackedReplay(len(seeds), CAPACITY, games.frame_shape, dtype=games.dtype, steps=3),
        _schedule(options),
        "adam",
    )
    made.begin()
    return made


def single(options: argparse.Namespace, objective: QObjective) -> Training:
    """Make the first of these runs alone, as `train_dqn` does."""
    games = _games(options.problem, 1)
    network, schedule = _network(options, games, 0), _schedule(options)
    auxiliary = make_auxiliary(network) if objective.correction else None
    optimizer = make_optimizer("adam", network, RATES.body, RATES.head, auxiliary=auxiliary)
    replay = Replay(CAPACITY, 1, games.frame_shape, dtype=games.dtype, steps=3)
    learner = Learner(
        network,
        optimizer,
        objective,
        auxiliary=auxiliary,
        target_cache_rows=schedule.target_cache_rows(replay.rows, torch.device("cpu")),
    )
    made = Training(learner, games, replay, schedule, 0)
    made.begin()
    return made


def _schedule(options: argparse.Namespace) -> TrainingSchedule:
    return TrainingSchedule(
        batch=options.batch,
        update_every=2,
        target_period=200,
        learning_starts=STARTS,
        epsilon_last=0.05,
        epsilon_steps=STARTS,
    )


def watched(made: DQNPopulation) -> Counter[str]:
    """Return the seconds of the CPU that the parts of a population take from now on."""
    spent: Counter[str] = Counter()

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            begun = time.process_time()
            try:
                return function(*arguments)
            finally:
                spent[name] += time.process_time() - begun

        return call

    parts: list[tuple[str, Any, str]] = [
        ("environments", made.environments, "receive_some"),
        ("actions", made, "_actions"),
        ("drawing batches", made.replay, "sample"),
        ("storing", made.replay, "append"),
        *(("updates", learner, "update") for _, learner in made.parts),
    ]
    for name, owner, method in parts:
        setattr(owner, method, timed(name, getattr(owner, method)))
    return spent


def _part(options: argparse.Namespace, seeds: range, asked: Connection) -> None:
    """Learn the runs of some seeds as far as the parent asks for; tell the CPU's seconds."""
    torch.set_num_threads(options.threads)
    made = population(options, CONTROL_RULES[options.rule], seeds)
    made.advance(STARTS + 50)
    spent = watched(made)
    asked.send(None)
    while steps := asked.recv():
        begun = time.process_time()
        made.advance(made.step + steps)
        asked.send((time.process_time() - begun, spent))


class _Processes:
    """A population whose runs are divided among processes."""

    def __init__(self, options: argparse.Namespace) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes = []
        for part in range(options.processes):
            own, others = context.Pipe()
            seeds = range(part, options.runs, options.processes)
            context.Process(target=_part, args=(options, seeds, others), daemon=True).start()
            self._pipes.append(own)
        for pipe in self._pipes:
            pipe.recv()

    def advance(self, steps: int) -> tuple[float, Counter[str]]:
        """Go on; return the CPU's seconds, and those of each part since the beginning."""
        for pipe in self._pipes:
            pipe.send(steps)
        answers = [pipe.recv() for pipe in self._pipes]
        return sum(cpu for cpu, _ in answers), sum((own for _, own in answers), Counter())

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.send(0)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Return microseconds a run-step of both, wall and CPU, in interleaved windows, and parts."""
    together = _Processes(options)
    alone = single(options, CONTROL_RULES[options.rule])
    torch.set_num_threads(1)
    alone.advance(STARTS + 50)
    windows: dict[str, list[tuple[float, float]]] = {"population": [], "one run at a time": []}
    spent: Counter[str] = Counter()
    for _ in range(options.rounds):
        each = 1e6 / (options.window * options.runs)
        wall = time.perf_counter()
        cpu, spent = together.advance(options.window)
        windows["population"].append(((time.perf_counter() - wall) * each, cpu * each))
        each, wall, begun = 1e6 / (4 * options.window), time.perf_counter(), time.process_time()
        alone.advance(alone.step + 4 * options.window)
        wall, cpu = time.perf_counter() - wall, time.process_time() - begun
        windows["one run at a time"].append((wall * each, cpu * each))
    together.close()
    steps = options.rounds * options.window * options.runs
    return {
        "options": {name: str(value) for name, value in vars(options).items()},
        "microseconds_a_run_step": {
            name: dict(zip(("wall", "cpu"), np.mean(each, 0))) for name, each in windows.items()
        },
        "cpu_microseconds_of_parts": {name: 1e6 * each / steps for name, each in spent.items()},
    }


def table(result: dict[str, Any]) -> str:
    """Return the rows as text."""
    times = result["microseconds_a_run_step"]
    lines = [
        f"{name:>18}: {each['wall']:7.1f} µs a run-step ({1e6 / each['wall']:,.0f} run-steps a "
        f"second), {each['cpu']:.1f} µs of the CPU"
        for name, each in times.items()
    ]
    one, all_runs = times["one run at a time"], times["population"]
    parts = result["cpu_microseconds_of_parts"]
    rest = all_runs["cpu"] - sum(parts.values())
    lines.append(
        f"ratio {one['wall'] / all_runs['wall']:.1f} of wall time, "
        f"{one['cpu'] / all_runs['cpu']:.1f} of CPU time"
    )
    spent = ", ".join(f"{name} {each:.1f}" for name, each in {**parts, "rest": rest}.items())
    return "\n".join([*lines, f"µs of the CPU a run-step: {spent}"])


def main() -> None:
    """Run the benchmark, print the table and write the JSON."""
    parser, number = CommandLine("dqn_population", __doc__), whole_number()
    parser.add_argument(
        "--problem", default="CartPole-v1", help="Gymnasium's name, or MinAtar/GAME"
    )
    parser.add_argument(
        "--rule", default="double-q", choices=list(CONTROL_RULES), help="learning rule"
    )
    parser.add_argument("--runs", type=number, default=64, help="runs of the population")
    parser.add_argument("--hidden", type=number, default=32, help="units of the hidden layer")
    parser.add_argument("--features", type=number, default=32, help="features before the head")
    parser.add_argument("--batch", type=number, default=32, help="transitions per update")
    parser.add_argument(
        "--processes", type=number, default=1, help="processes that share the population's runs"
    )
    parser.add_argument("--threads", type=number, default=1, help="threads of each process")
    parser.add_argument("--rounds", type=number, default=5, help="time windows of each program")
    parser.add_argument("--window", type=number, default=50, help="agent steps of a time window")
    parser.add_argument(
        "--out",
        type=result_file,
        default=Path("runs/bench-dqn-population.json"),
        help="file of the results, JSON",
    )
    options = parser.parse_args()
    if options.processes > options.runs:
        parser.error(f"--processes {options.processes} is more than --runs {options.runs}")
    try:
        _games(options.problem, 1)
    except ValueError as error:
        parser.error(f"--problem: {error}")
    result = measured(options)
    write_results(options.out, result)
    print(table(result))


if __name__ == "__main__":
    main()
