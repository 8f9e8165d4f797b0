"""Agent steps per second of deep Q-learning, next to Stable-Baselines3: python -m benchmarks.dqn.

Both programs have the same settings: one game, the network of Mnih et al. 2015, Adam, gradient norm
at most 10, plain Q-learning with the Huber loss, batch 32, an update every 4 agent steps, a full
replay of 10,000 frames, ε = 0.1, a target network that is copied every 10,000 agent steps, and the
same native emulators. This project computes a target value once between two copies of the network,
so updates become cheaper towards the next copy. All time windows together therefore have one whole
period between two copies. Machines are noisy, so the windows of the programs alternate. Compare
ratios, not absolute numbers. The program needs ale-py and Stable-Baselines3: `make bench` installs
both.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from agents.dqn.learner import Learner
from agents.dqn.objectives import QObjective
from agents.dqn.optimizers import make_optimizer
from agents.dqn.q_network import make_network, matrix_operations
from agents.dqn.replay import Replay
from agents.dqn.training import Training, TrainingSchedule
from benchmarks.command_line import CommandLine, result_file, whole_number, write_results
from benchmarks.machine import matrix_window, seconds
from envs.games.atari import AtariEnvironments, Protocol, rom_name
from envs.games.stepping import observation_shape

CAPACITY = 10_000
BATCH, EVERY = 32, 4
RATE = 1e-4
# Agent steps between two copies into the target, as Stable-Baselines3 has it.
PERIOD = 10_000
PARTS_EVERY = 10
CPU = torch.device("cpu")


def ours(
    game: str, count: int, capacity: int, precision: str = "float32", compiled: bool = False
) -> Training:
    """Return this project's training with the settings of the benchmark."""
    games = AtariEnvironments(game, count, Protocol(life_loss=False))
    network = make_network(
        "nature", observation_shape(games), games.actions, seed=0, scale=games.scale
    )
    replay = Replay(capacity, count, games.frame_shape, stack=games.stack, reward_limit=1.0)
    schedule = TrainingSchedule(BATCH, EVERY, PERIOD, capacity, 0.1, 0.1, 1, steps=10**9)
    learner = Learner(
        network,
        make_optimizer("adam", network, RATE, RATE),
        QObjective(double=False),
        max_grad_norm=10.0,
        precision=precision,
        compiled=compiled,
        target_cache_rows=schedule.target_cache_rows(replay.rows, CPU),
    )
    training = Training(learner, games, replay, schedule, 0)
    training.begin()
    return training


def parts(training: Training) -> dict[str, tuple[Callable[[], object], int]]:
    """Return what one agent step is made of: functions, and how often a function runs in a step."""
    games, replay, learner = training.environments, training.replay, training.learner
    generator = torch.Generator().manual_seed(1)
    action = np.zeros(games.count, dtype=np.int64)
    batch = replay.sample(BATCH, generator)

    def emulate() -> None:
        games.send(action)
        games.receive()

    def update() -> None:
        """Make a whole update: with no target value known from an earlier one."""
        known, learner.target_values = learner.target_values, None
        learner.update(batch)
        learner.target_values = known

    return {
        "emulation": (emulate, games.count),
        "action": (lambda: learner.greedy(replay.latest()).numpy(), games.count),
        "sampling": (lambda: replay.sample(BATCH, generator), EVERY),
        "update": (update, EVERY),
    }


def update_operations(training: Training) -> int:
    """Return the multiplications and additions of one update: forwards twice, backwards once."""
    network = training.learner.network
    observation = training.replay.sample(BATCH, torch.Generator()).observation
    forward = matrix_operations(network, observation)
    first = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    # No gradient is taken for the pictures.
    inputs = matrix_operations(nn.Sequential(first), observation.float())
    return 4 * forward - inputs


def measured(game: str, counts: list[int], rounds: int, window: int, variants: list[str]) -> Any:
    """Measure all programs in interleaved windows; return steps a second and the parts."""
    from benchmarks.dqn_peer import peer

    programs: dict[tuple[str, int], Callable[[int], None]] = {}
    trainings: dict[tuple[str, int], Training] = {}
    for count in counts:
        model = peer(rom_name(game), count, CAPACITY, CAPACITY)
        # `learn` counts from where it is; filling the replay is part of the preparation.
        model.learn(CAPACITY + 64, log_interval=10**9)
        programs["stable-baselines3", count] = lambda steps, model=model: model.learn(
            steps, reset_num_timesteps=False, log_interval=10**9
        )
        for variant in variants:
            precision = "bf16" if "bf16" in variant else "float32"
            training = ours(game, count, CAPACITY, precision, "compiled" in variant)
            training.advance(CAPACITY + 64)
            trainings[variant, count] = training
            programs[variant, count] = lambda steps, training=training: training.advance(
                training.step + steps
            )
    pieces = {(variant, count): parts(training) for (variant, count), training in trainings.items()}
    taken = dict.fromkeys(programs, 0.0)
    spent: dict[tuple[str, int], dict[str, float]] = {case: {} for case in pieces}
    ratios: dict[tuple[str, int], list[float]] = {case: [] for case in trainings}
    matrix, rate = matrix_window(CPU), 0.0
    for turn in range(rounds):
        rate = max(rate, matrix())
        now = {}
        for case, go in programs.items():
            begun = time.perf_counter()
            go(window)
            now[case] = window / (time.perf_counter() - begun)
            taken[case] += window / now[case]
        for case in trainings:
            ratios[case].append(now[case] / now["stable-baselines3", case[1]])
        for case, functions in pieces.items() if turn % PARTS_EVERY == 0 else ():
            for name, (function, _) in functions.items():
                one = seconds(function, 20, CPU)
                spent[case][name] = min(spent[case].get(name, float("inf")), one)
        print(f"window {turn + 1} of {rounds}", file=sys.stderr)
    rows = []
    for (program, count), whole in taken.items():
        row: dict[str, Any] = {
            "program": program,
            "environments": count,
            "agent_steps": rounds * window,
            "steps_per_second": rounds * window / whole,
            "times_peer": taken["stable-baselines3", count] / whole,
        }
        if (program, count) in spent:
            per_step = {
                name: spent[program, count][name] / often
                for name, (_, often) in pieces[program, count].items()
            }
            operations = update_operations(trainings[program, count])
            row |= {
                "window_ratios": ratios[program, count],
                "microseconds_a_step": {name: 1e6 * value for name, value in per_step.items()},
                "sum_of_parts_steps_per_second": 1 / sum(per_step.values()),
                "update_share_of_matrix_rate": operations / spent[program, count]["update"] / rate,
            }
        rows.append(row)
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "matrix_operations_per_second": rate,
        "rows": rows,
    }


def peak_memory(program: str, transitions: int) -> int:
    """Return the peak bytes of this process with a full replay, random frames, some updates."""
    rng = np.random.default_rng(0)
    frames = rng.integers(256, size=(16, 4, 84, 84), dtype=np.uint8)
    no = np.zeros(1, dtype=bool)
    if program == "ours":
        training = ours("ALE/Pong-v5", 1, transitions)
        for index in range(transitions + 8):
            frame = frames[index % 16, :1][None]
            training.replay.append(np.zeros(1, int), np.zeros(1, np.float32), no, no, no, frame)
        for _ in range(20):
            training.learner.update(training.replay.sample(BATCH, torch.Generator()))
    else:
        from benchmarks.dqn_peer import peer

        model = peer(rom_name("ALE/Pong-v5"), 1, transitions, 1, compact="compact" in program)
        model.learn(8, log_interval=10**9)
        for index in range(transitions + 8):
            stack = frames[index % 16][None]
            model.replay_buffer.add(stack, stack, np.zeros((1, 1)), np.zeros(1), no, [{}])
        model.train(20, BATCH)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory_rows(transitions: int) -> list[dict[str, Any]]:
    """Return the peak memory of each program, each in a process of its own."""
    rows = []
    for program in ("ours", "stable-baselines3", "stable-baselines3 compact"):
        command = [sys.executable, "-m", "benchmarks.dqn", "--memory-of", program]
        command += ["--transitions", str(transitions)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append({"program": program, "peak_bytes": int(done.stdout.strip().splitlines()[-1])})
    return rows


def memory_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return the memory of each program as text."""
    return [f"{row['program']:>26}: {row['peak_bytes'] / 1e9:.2f} GB at the peak" for row in rows]


def first_and_last(ratios: list[float]) -> tuple[float, float]:
    """Return the medians of the first and of the last tenth of the windows' ratios."""
    tenth = max(1, len(ratios) // 10)
    return float(np.median(ratios[:tenth])), float(np.median(ratios[-tenth:]))


def table(result: dict[str, Any]) -> str:
    """Return the rows as text."""
    lines = []
    for row in result["rows"]:
        line = (
            f"{row['program']:>20} {row['environments']:>2} games {row['steps_per_second']:>7.0f} "
            f"steps/s {row['times_peer']:>5.2f} × peer"
        )
        if "microseconds_a_step" in row:
            ratio = first_and_last(row["window_ratios"])
            spent = ", ".join(f"{k} {v:.0f}" for k, v in row["microseconds_a_step"].items())
            line += (
                f" (first tenth {ratio[0]:.2f}, last {ratio[1]:.2f}); µs a step: {spent}; sum "
                f"{row['sum_of_parts_steps_per_second']:.0f} steps/s; update at "
                f"{row['update_share_of_matrix_rate']:.0%} of the matrix rate"
            )
        lines.append(line)
    lines += memory_lines(result.get("memory", []))
    rate = result["matrix_operations_per_second"] / 1e9
    return "\n".join([*lines, f"matrix product {rate:.0f} Gop/s, {result['threads']} threads"])


def main() -> None:
    """Run the benchmark, print the table and write the JSON."""
    parser, number = CommandLine("dqn", __doc__), whole_number()
    parser.add_argument("--game", default="ALE/Pong-v5", help="name of an Atari game in Gymnasium")
    parser.add_argument(
        "--environments", type=number, nargs="+", default=[1, 8], help="games in parallel"
    )
    parser.add_argument(
        "--variant",
        nargs="+",
        default=["float32"],
        choices=("float32", "bf16", "compiled", "bf16-compiled"),
        help="how the updates of this project are computed",
    )
    parser.add_argument("--rounds", type=number, default=50, help="time windows of each program")
    parser.add_argument("--window", type=number, default=200, help="agent steps of a time window")
    memory = parser.add_mutually_exclusive_group()
    memory.add_argument("--no-memory", action="store_true", help="measure the speed alone")
    memory.add_argument("--only-memory", action="store_true", help="measure the memory alone")
    parser.add_argument(
        "--transitions", type=number, default=100_000, help="size of the replay, for the memory"
    )
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument(
        "--out",
        type=result_file,
        default=Path("runs/bench-dqn.json"),
        help="file of the results, JSON",
    )
    options = parser.parse_args()
    try:
        rom_name(options.game)
    except ValueError as error:
        parser.error(f"--game: {error}")
    if options.memory_of:
        print(peak_memory(options.memory_of, options.transitions))
        return
    if options.only_memory:
        print("\n".join(memory_lines(memory_rows(options.transitions))))
        return
    result = measured(
        options.game, options.environments, options.rounds, options.window, options.variant
    )
    if not options.no_memory:
        result["memory"] = memory_rows(options.transitions)
    write_results(options.out, result)
    print(table(result))


if __name__ == "__main__":
    main()
