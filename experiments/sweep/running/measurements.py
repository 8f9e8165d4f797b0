"""From the measurements of a population to the results of a shard: means, ends and curves."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from experiments.evaluate_policy.results.noise import FLOOR
from experiments.runs.results.statistics import measurement_weights
from neural_tdc.types import Measurement

Results = dict[str, np.ndarray]


def summed_up(
    measurements: Iterable[Measurement],
    steps: Sequence[int],
    configurations: int,
    on_progress: Callable[[int], None],
    *,
    curves: bool,
) -> Results:
    """Return what a shard keeps of its measurements; see `shard.run_shard`.

    measurements: at these steps, of populations [configuration · run]
    on_progress:  called with the run-steps done since the last call
    """
    sums: dict[str, Tensor] = {}
    numbers: dict[str, Tensor] = {}
    found: dict[str, list[Tensor]] = {}
    done = 0
    for measurement, weight in zip(measurements, measurement_weights(np.array(steps)).tolist()):
        errors = {
            name.removeprefix("error/"): value
            for name, value in measurement.values.items()
            if name.startswith("error/")
        }
        for name, value in errors.items():
            finite = value.isfinite().double()
            sums[name] = sums.get(name, 0) + torch.where(finite > 0, weight * value, 0.0)
            numbers[name] = numbers.get(name, 0) + weight * finite
            if curves:
                found.setdefault(name, []).append(value)
        on_progress((measurement.step - done) * len(measurement.diverged))
        done = measurement.step

    def table(values: Tensor) -> np.ndarray:
        return values.reshape(*values.shape[:-1], configurations, -1).numpy()

    results: Results = {"diverged": table(measurement.diverged)}
    if FLOOR in measurement.values:
        results[FLOOR] = table(measurement.values[FLOOR])
    for name, total in sums.items():
        mean = total / torch.where(numbers[name] > 0, numbers[name], 1)
        lost = measurement.diverged | (numbers[name] == 0)
        results[f"auc/{name}"] = table(torch.where(lost, torch.nan, mean))
        results[f"final/{name}"] = table(errors[name])
        if curves:
            results[f"curve/{name}"] = table(torch.stack(found[name]))
    if curves:
        results["steps"] = np.array(steps)
    return results
