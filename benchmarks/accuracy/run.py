"""One job of the accuracy benchmark: every method on one log of one problem."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.peers import PEERS
from benchmarks.accuracy.problems import PROBLEMS, collect, truth
from neural_tdc import Transition, evaluate
from neural_tdc.best_value import best_value

TRANSITIONS = 20_000
# The product's presets by kind of problem, and Algorithm 1 at its default steps.
PRESETS: dict[bool, dict[str, Any]] = {
    False: {"rule": "td", "body_step": 2**-11, "head_step": 100 * 2**-11},
    True: {
        "rule": "generalized+tdc",
        "body_step": 2**-7,
        "head_step": 10 * 2**-7,
        "auxiliary_step": 10 * 2**-12,
    },
}
RULES = ("preset", "algorithm 1")
AUTO = "auto"


def errors(name: str, seed: int) -> dict[str, Any]:
    """Return errors and seconds of every method on one log."""
    torch.set_num_threads(1)
    problem = PROBLEMS[name]()
    log, _ = collect(problem, TRANSITIONS, seed)
    known = truth(problem, seed)
    spread, noise = float(known.value.std()), float(np.square(known.error).mean())
    ends = log.terminated | log.truncated
    columns = (
        log.observation,
        log.reward,
        problem.discount * (1 - log.terminated),
        log.next_observation,
        log.ratio,
        np.r_[1, ends[:-1]],
    )
    stream = Transition(*(torch.as_tensor(np.asarray(each, dtype=np.float64)) for each in columns))
    at = torch.as_tensor(known.observation, dtype=torch.float64)
    results: dict[str, Any] = {}

    def measured(method: str, learn: Callable[[], Any]) -> None:
        begun = time.perf_counter()
        value = np.asarray(learn(), dtype=np.float64)
        squared = float(np.square(value - known.value).mean())
        # A truth by Monte Carlo adds its own error to every method's; what it adds is subtracted.
        error = math.sqrt(max(squared - noise, 0.0)) if math.isfinite(squared) else math.inf
        results[method] = {"error": error / spread, "seconds": time.perf_counter() - begun}

    chosen: list[Any] = []

    def auto() -> Any:
        found = best_value(stream, seed=seed)
        chosen.append([found.criterion, [each.family for each in found.ranking]])
        return found.value(at)

    measured(AUTO, auto)
    mean, deviation = stream.observation.mean(0), stream.observation.std(0, unbiased=False)
    scaled = stream._replace(
        observation=((stream.observation - mean) / deviation).float(),
        next_observation=((stream.next_observation - mean) / deviation).float(),
        reward=stream.reward.float(),
        discount=stream.discount.float(),
        ratio=stream.ratio.float(),
        first=stream.first.float(),
    )
    for method, settings in zip(RULES, (PRESETS[problem.behaviour is not None], {"rule": "tdc"})):

        def rule(settings: dict[str, Any] = settings) -> Any:
            result = evaluate(
                scaled,
                steps=TRANSITIONS,
                held_out=0.01,
                measure_every=TRANSITIONS,
                seed=seed,
                **settings,
            )
            return result.value(((at - mean) / deviation).float(), run=0)

        measured(method, rule)
    for method, (learn, off_policy) in PEERS.items():
        if problem.behaviour is None or off_policy:
            measured(
                method,
                lambda learn=learn: learn(log, problem.discount)(known.observation, known.policy),
            )
    return {
        "problem": name,
        "seed": seed,
        "off_policy": problem.behaviour is not None,
        "spread": spread,
        "noise": math.sqrt(noise) / spread,
        "chosen": chosen,
        "results": results,
    }


def job(task: tuple[str, int, str]) -> dict[str, Any]:
    name, seed, folder = task
    path = Path(folder) / f"{name}-{seed}.json"
    if not path.exists():
        found = errors(name, seed)
        path.with_suffix(".part").write_text(json.dumps(found, indent=1))
        path.with_suffix(".part").replace(path)
    print(path.stem, flush=True)
    return json.loads(path.read_text())
