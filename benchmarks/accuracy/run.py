"""One job of the accuracy benchmark: every method on one log of one problem."""

import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.accuracy.cases import made_case
from benchmarks.accuracy.methods import methods_of, spread_of


class Task(NamedTuple):
    """One log and what is run on it.

    methods:    their names; None for all
    with_rules: whether learning rules are candidates as well
    """

    problem: str
    seed: int
    folder: str
    methods: tuple[str, ...] | None = None
    with_rules: bool = False


def job(task: Task) -> dict[str, Any]:
    """Run the methods that the file of a problem and a seed lacks, writing after each."""
    name, seed, folder, wanted, with_rules = task
    torch.set_num_threads(1)
    path = _path(name, seed, folder)
    found: dict[str, Any] = finished(name, seed, folder) or {"results": {}}
    case = made_case(name, seed)
    left: dict[str, Any] = {}
    for method, learn in methods_of(case, with_rules=with_rules).items():
        if method in found["results"] or (wanted is not None and method not in wanted):
            continue
        begun = time.perf_counter()
        value, more = learn(case, seed, left)
        seconds = time.perf_counter() - begun
        squared = float(case.weighting @ (value.double() - case.value).square())
        # A truth by Monte Carlo adds its own error to every method's; what it adds is subtracted.
        error = math.sqrt(max(squared - case.noise, 0.0)) if math.isfinite(squared) else math.inf
        row = {"error": error / spread_of(case), "seconds": seconds, **more}
        found["results"][method] = row
        found |= {
            "problem": name,
            "seed": seed,
            "off_policy": case.off_policy,
            "spread": spread_of(case),
            "noise": math.sqrt(case.noise) / spread_of(case),
        }
        path.with_suffix(".part").write_text(json.dumps(found, indent=1))
        path.with_suffix(".part").replace(path)
        print(f"{path.stem}: {method} {row['error']:.3f}, {seconds:.1f} s", flush=True)
    return found


def finished(name: str, seed: int, folder: str) -> dict[str, Any] | None:
    """Return what is there of a job; None for nothing."""
    path = _path(name, seed, folder)
    return json.loads(path.read_text()) if path.exists() else None


def _path(name: str, seed: int, folder: str) -> Path:
    return Path(folder) / f"{name.replace(' ', '-')}-{seed}.json"
