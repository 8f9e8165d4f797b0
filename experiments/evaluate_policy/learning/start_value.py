"""The value of the policy, ρ(π): its interval, what that is over, and the data behind it."""

from collections.abc import Mapping
from typing import Any

import torch

from agents.resampled_task import Evidence, evidence
from agents.starts import START_VALUE
from agents.task import Task
from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.runs.results.history import History
from experiments.runs.results.intervals import mean_interval
from experiments.runs.results.report import mean_with_interval
from experiments.runs.results.statistics import number_or_none
from neural_tdc.learning.resampling import FEW_UNITS, data_interval
from neural_tdc.types import mapped

# What has no interval, and what gives one.
ONE_SEARCH, ONE_RUN = "one search", "one run"
_INTERVAL_BY = {ONE_SEARCH: "--resample episodes gives one", ONE_RUN: "more --runs give one"}


def run_evidence(task: Task) -> Evidence:
    """Return how much data the first run of a task learns from."""
    stream = mapped(task.experience.transitions, lambda leaf: leaf[0])
    if task.actions is not None:
        # No ratio weighs an error.
        stream = stream._replace(ratio=torch.ones_like(stream.ratio))
    return evidence(stream)


def value_of_runs(history: History, task: Task) -> dict[str, Any]:
    """Return what `summary.json` holds of ρ(π) after the last measurement of a rule.

    With resampled data the mean is that of run 0, which has the data as they are, and the interval
    is over resamples. Else both are over the runs.
    """
    values = history.last(START_VALUE)
    if task.resampled:
        mean, low, high = data_interval(torch.from_numpy(values))
        over = resampled_over(len(values), task.resampled)
    else:
        mean, low, high = map(float, mean_interval(values))
        shared = len(task.experience.transitions.reward) == 1 < len(values)
        what = (
            ": initial parameters and draws, not another log"
            if shared
            else ", each with its own data"
        )
        over = f"{len(values)} runs{what}" if len(values) > 1 else ONE_RUN
    return value_entry(mean, low, high, over, run_evidence(task))


def resampled_over(resamples: int, units: str) -> str:
    """Return what an interval is over, in words."""
    return f"{resamples - 1} resamples of {units}"


def value_entry(mean: float, low: float, high: float, over: str, data: Evidence) -> dict[str, Any]:
    """Return the entries of `summary.json` about ρ(π) and the data behind it."""
    return {
        "value": {
            "mean": number_or_none(mean),
            "low": number_or_none(low),
            "high": number_or_none(high),
            "over": over,
        },
        "effective_sample_size": data.effective,
        "largest_ratio": data.largest,
    }


def value_line(name: str, summary: Mapping[str, Any], data: Evidence) -> str:
    """Return ρ(π) of a rule, what its interval is over, and the weights of off-policy data."""
    value = summary["value"]
    over = value["over"]
    what = f"95 % interval over {over}" if value["low"] is not None else f"no interval over {over}"
    if over in _INTERVAL_BY:
        what = f"{over} has no interval over runs; {_INTERVAL_BY[over]}"
    said = f"; {data}" if str(data) else ""
    return f"{name}: value of the policy ρ(π) {mean_with_interval(value)} ({what}){said}"


def data_warnings(settings: EvaluationSettings, data: Evidence) -> list[str]:
    """Return the warnings about the data; a problem's can be collected at will, a log's not."""
    scarce = settings.data is not None or settings.resample != "none"
    return data._replace(unit_count=data.unit_count if scarce else FEW_UNITS).warnings()
