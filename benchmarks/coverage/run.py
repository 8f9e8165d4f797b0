"""One job of the coverage benchmark: ρ(π) on every resample of some logs, by one method."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.coverage.cases import Logs, logs
from neural_tdc.best_value import best_value
from neural_tdc.learning.experience import Experience
from neural_tdc.learning.learner import divergence_limit, learn
from neural_tdc.learning.preparation import base_steps, prepare
from neural_tdc.learning.resampling import resampled_rows, resampling_units
from neural_tdc.learning.sampling import IidSampling, MarkovSampling, Sampling
from neural_tdc.learning.schedules import Schedule, schedule
from neural_tdc.metrics.selection import effective_sample_size
from neural_tdc.randomness import keys
from neural_tdc.rules.registry import RULES
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Parameters, StepSizes, mapped

RESAMPLES = 50
# TD: updates, transitions each, and the first step size as a multiple of the number of states. It
# is halved after HALVED updates, a third after twice as many, and so on.
UPDATES, BATCH, STEP, HALVED = 600, 16, 0.25, 60
# LSTD: one update with the whole log.
EPSILON = 1e-5


class Job(NamedTuple):
    """Some logs of one chain, evaluated by one method."""

    chain: str
    size: int
    method: str
    first: int
    count: int

    @property
    def file(self) -> str:
        """Return the name of its results' file."""
        return f"{self.chain}-{self.size}-{self.method}-{self.first:04}.json"


def by_td(data: Logs) -> list[list[float]]:
    """Return ρ of every resample of every log, by TD on one-hot features, as one population."""

    def factors(update: Tensor) -> StepSizes:
        factor = 1 / (1 + update.double() / HALVED)
        return StepSizes(factor, factor, factor)

    return learned(data, RULES["td"], UPDATES, STEP * len(data.table), IidSampling(BATCH), factors)


def by_lstd(data: Logs) -> list[list[float]]:
    """Return ρ of every resample of every log, by LSTD(0) on one-hot features."""
    rule = RULES["frozen+lstd"].with_settings(lstd_window=1, lstd_epsilon=EPSILON)
    found = []
    for number in range(len(data.start_value)):
        part = slice(number, number + 1)
        one = data._replace(
            transitions=mapped(data.transitions, lambda leaf, part=part: leaf[part]),
            start_value=data.start_value[part],
        )
        whole = MarkovSampling(one.transitions.reward.shape[1])
        found += learned(one, rule, 1, 1.0, whole, schedule("constant"), seed=number)
    return found


def learned(
    data: Logs,
    rule: Rule,
    updates: int,
    step: float,
    sampling: Sampling,
    factors: Schedule,
    seed: int = 0,
) -> list[list[float]]:
    """Return ρ of every resample of every log after some updates of a rule, as one population."""
    count = len(data.start_value)
    runs = count * RESAMPLES
    rows = []
    for number in range(count):
        log = mapped(data.transitions, lambda leaf, number=number: leaf[number])
        rows.append(resampled_rows(resampling_units(log).number, RESAMPLES, seed + number))
    experience = Experience(
        data.transitions,
        data.table,
        torch.arange(count).repeat_interleave(RESAMPLES),
        keys(seed, runs, "sampling"),
        rows=torch.cat(rows),
    )
    algorithm, state = prepare(rule, None, data.table, runs=runs, seed=seed)

    def starts(parameters: Parameters) -> dict[str, Tensor]:
        return {"value": start_means(parameters.head, experience, data.table)}

    (*_, last) = learn(
        algorithm,
        state,
        experience,
        base_steps(algorithm.rule, StepSizes(0.0, step, 0.0), runs, data.table),
        factors,
        sampling,
        starts,
        steps=updates,
        measured=[updates],
        limit=divergence_limit(state.parameters),
    )
    return last.values["value"].view(count, RESAMPLES).tolist()


def start_means(
    head: Float[Tensor, "run state"], experience: Experience, table: Float[Tensor, "state state"]
) -> Float[Tensor, " run"]:
    """Return the mean value of every run over the starts among its rows."""
    assert experience.rows is not None
    first, observation = experience.transitions.first, experience.transitions.observation
    assert first is not None
    of_run = experience.stream_index[:, None]
    state = observation[of_run, experience.rows]
    begins = first[of_run, experience.rows] > 0
    # Where no start was drawn, that of the log.
    none = ~begins.any(1)
    state[none, 0] = observation[experience.stream_index[none], 0]
    begins[none, 0] = True
    values = (head @ table.T).gather(1, state)
    return (values * begins).sum(1) / begins.sum(1)


def by_auto(data: Logs) -> list[list[float]]:
    """Return ρ of every resample of every log, by the best value function without networks."""
    found = []
    for number in range(len(data.start_value)):
        log = mapped(data.transitions, lambda leaf, number=number: leaf[number])
        stream = log._replace(
            observation=data.table[log.observation],
            next_observation=data.table[log.next_observation],
        )
        best = best_value(stream, width=2 * len(data.table), updates=0, resamples=RESAMPLES)
        found.append(best.start_values.tolist())
    return found


METHODS: dict[str, Callable[[Logs], list[list[float]]]] = {
    "lstd": by_lstd,
    "td": by_td,
    "auto": by_auto,
}


def result(job: Job, folder: Path) -> dict[str, Any]:
    """Return the results of a job, from its file if it is there.

    {"truth": [log], "values": [log, resample], "units": [log], "effective": [log]}, the last one
    the effective share of the transitions.
    """
    path = folder / job.file
    if not path.exists():
        data = logs(job.chain, job.size, job.first, job.count)
        whole = [mapped(data.transitions, lambda leaf, n=n: leaf[n]) for n in range(job.count)]
        found = {
            "truth": data.start_value.tolist(),
            "values": METHODS[job.method](data),
            "units": [resampling_units(log).unit_count for log in whole],
            "effective": [effective_sample_size(log.ratio) / job.size for log in whole],
        }
        path.with_suffix(".part").write_text(json.dumps(found))
        path.with_suffix(".part").replace(path)
    return json.loads(path.read_text())
