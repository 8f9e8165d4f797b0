"""Updates a second of Nature's Q-network and of populations, a step, the memory of the replay."""

import time
from functools import partial
from typing import Any

import numpy as np
import torch

from agents.dqn.batch import Batch
from agents.dqn.learner import Learner
from agents.dqn.objectives import DOUBLE
from agents.dqn.optimizers import make_optimizer
from agents.dqn.q_network import make_network
from agents.dqn.replay import Replay, replay_bytes
from agents.dqn.stacked_learner import MemberRates, StackedLearner
from benchmarks.gpu.record import Record
from benchmarks.gpu.timing import Setting, best_seconds, driver_calls

FRAME = (1, 84, 84)
ENVIRONMENTS = 8
# What a learner is made with; `tf32` is a switch of torch.
VARIANTS: dict[str, dict[str, Any]] = {
    "float32": {"graph": False},
    "float32 graph": {},
    "tf32": {"graph": False},
    "tf32 graph": {},
    "bf16": {"graph": False, "precision": "bf16"},
    "bf16 graph": {"precision": "bf16"},
    "float32 compiled": {"graph": False, "compiled": True},
    "bf16 compiled graph": {"precision": "bf16", "compiled": True},
}


def q_learner(setting: Setting, **options: Any) -> Learner:
    """Return a learner of Nature's network with Adam; of a small one in a test."""
    name = "paper" if setting.small else "nature"
    network = make_network(name, (4, 84, 84), 6, seed=0, scale=1 / 255).to(setting.device)
    optimizer = make_optimizer("adam", network, 1e-4, 2.5e-4)
    return Learner(network, optimizer, max_grad_norm=10.0, **options)


def filled_replay(setting: Setting) -> Replay:
    """Return a replay with some random frames in it."""
    replay = Replay(
        1_000_000 if setting.on_gpu and not setting.small else 400,
        ENVIRONMENTS,
        FRAME,
        stack=4,
        device=setting.device,
        reward_limit=1.0,
    )
    generator = np.random.default_rng(0)
    frames = generator.integers(256, size=(16, ENVIRONMENTS, *FRAME), dtype=np.uint8)
    replay.start(frames[0])
    for index in range(40 if setting.small else 2000):
        add_step(replay, frames[index % 16])
    return replay


def add_step(replay: Replay, frame: np.ndarray) -> None:
    """Store a step that ends nothing."""
    no = np.zeros(ENVIRONMENTS, dtype=bool)
    ones = np.ones(ENVIRONMENTS, dtype=np.float32)
    replay.append(np.zeros(ENVIRONMENTS, dtype=np.int64), ones, no, no, no, frame)


def measure_q_networks(record: Record, setting: Setting) -> None:
    """Add rows for the replay, the parts of a step, and the variants of an update."""
    replay = record.guarded("replay", 20, lambda: filled_replay(setting))
    if replay is None:
        return
    _measure_replay(record, setting, replay)
    source = torch.Generator().manual_seed(0)
    for size in (2,) if setting.small else (32, 512):
        for name in VARIANTS:
            idle = "tf32" in name or "graph" in name or "compiled" in name
            if idle and not setting.on_gpu:
                continue
            record.guarded(
                "updates",
                30,
                partial(_measure_updates, record, setting, replay, source, size, name),
                batch=size,
                variant=name,
            )
    torch.backends.cudnn.allow_tf32 = False
    for runs in (2,) if setting.small else (64, 1024):
        for graph in (False, True) if setting.on_gpu else (False,):
            name = f"{runs} runs" + graph * " graph"
            part = partial(_measure_population, record, setting, runs, graph, name)
            record.guarded("updates", 20, part, batch=32, variant=name)


def _measure_population(
    record: Record, setting: Setting, runs: int, graph: bool, name: str
) -> None:
    """Measure updates of a population of small networks; one counts for all its runs."""
    networks = [make_network("mlp", (4,), 2, seed=run).to(setting.device) for run in range(runs)]
    rates = [MemberRates(1e-3, 2.5e-3, 1.0)] * runs
    model = StackedLearner(networks, DOUBLE, rates, "adam", graph=graph)
    numbers = torch.zeros(runs, 32, device=setting.device)
    state = torch.zeros(runs, 32, 4, device=setting.device)
    batch = Batch(state, numbers.long(), numbers, numbers, state, np.zeros((runs, 32)))
    for _ in range(5):
        model.update(batch)
    record.row(
        "updates",
        batch=32,
        variant=name,
        updates_per_second=1 / best_seconds(lambda: model.update(batch), setting),
        **driver_calls(lambda: model.update(batch), setting),
    )


def _measure_replay(record: Record, setting: Setting, replay: Replay) -> None:
    source = torch.Generator().manual_seed(0)
    frame = np.zeros((ENVIRONMENTS, *FRAME), dtype=np.uint8)
    model = q_learner(setting, graph=False)
    expected, _ = replay_bytes(replay.rows, FRAME)
    allocated = torch.cuda.memory_allocated(setting.device) if setting.on_gpu else expected
    record.row("replay", frames=replay.rows, gigabytes=expected / 1e9, allocated=allocated / 1e9)
    for name, function in (
        ("sample", lambda: replay.sample(32, source)),
        ("append", lambda: add_step(replay, frame)),
        ("act", lambda: model.greedy(replay.latest()).cpu()),
    ):
        seconds = best_seconds(function, setting)
        record.row(
            "replay", call=name, microseconds=1e6 * seconds, **driver_calls(function, setting)
        )


def _measure_updates(
    record: Record,
    setting: Setting,
    replay: Replay,
    source: torch.Generator,
    size: int,
    name: str,
) -> None:
    torch.backends.cudnn.allow_tf32 = "tf32" in name
    torch.backends.cuda.matmul.allow_tf32 = "tf32" in name
    begun = time.perf_counter()
    try:
        model, batch = q_learner(setting, **VARIANTS[name]), replay.sample(size, source)
        for _ in range(1 if setting.small else 5):
            model.update(batch)
        update = best_seconds(lambda: model.update(batch), setting)
        both = best_seconds(lambda: model.update(replay.sample(size, source)), setting)
        record.row(
            "updates",
            batch=size,
            variant=name,
            updates_per_second=1 / update,
            with_sampling_per_second=1 / both,
            seconds=time.perf_counter() - begun,
            **driver_calls(lambda: model.update(batch), setting),
        )
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def two_learners_differ(setting: Setting) -> float:
    """Return the largest difference of two networks that learned the same; 0 for the same bits."""
    pair = [q_learner(setting) for _ in range(2)]
    replay = filled_replay(setting._replace(small=True))
    for model in pair:
        source = torch.Generator().manual_seed(1)
        for _ in range(2 if setting.small else 100):
            model.update(replay.sample(4 if setting.small else 32, source))
    one, other = ([p.detach() for p in model.network.parameters()] for model in pair)
    return max(float((a - b).abs().max()) for a, b in zip(one, other))
