"""From the shards of a study to its answers: rows, selections, fresh reports and comparisons."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.runs.results.intervals import mean_interval, paired_difference
from experiments.sweep.running.build import Cell
from experiments.sweep.running.configurations import Configuration
from experiments.sweep.running.measurements import Results
from experiments.sweep.running.shard import Shard


class Row(NamedTuple):
    """What came out for one configuration of one rule in one panel.

    values:   {"auc/rmsve": [run]}, NaN where a run diverged; `noise/…` as at the end
    diverged: [run]
    curves:   {"rmsve": [measurement, run]}, where they were kept, with `steps` [measurement]
    """

    cell: Cell
    configuration: Configuration
    values: dict[str, np.ndarray]
    diverged: np.ndarray
    curves: dict[str, np.ndarray]
    steps: np.ndarray

    @property
    def panel(self) -> tuple[str, str]:
        """Return the problem and the sampling."""
        return self.cell.problem, self.cell.sampling

    @property
    def swept(self) -> float:
        """Return the step size that the sensitivity is shown over."""
        return self.configuration.body_step or self.configuration.head_step

    def score(self, select: str) -> float:
        """Return what a step is selected by, the mean over runs; infinite if one diverged."""
        values = self.values.get(key_of(select))
        if values is None or self.diverged.any():
            return math.inf
        mean = float(np.mean(values))
        return mean if math.isfinite(mean) else math.inf


def key_of(select: str) -> str:
    """Return the name of `auc_rmsve` among a row's values."""
    return select.replace("_", "/", 1)


def rows(cell: Cell, results: Mapping[str, Results], cut: Sequence[Shard]) -> list[Row]:
    """Return a row a configuration of a cell; its configurations are those of the shards, in order.

    results: {name of a shard: its results}
    """
    by_sizes = {
        (each.body_step, each.head_step, each.auxiliary_step): each for each in cell.configurations
    }
    result = []
    for shard in cut:
        arrays = results[shard.name]
        for index, sizes in enumerate(shard.configurations):
            values = {
                name: array[index]
                for name, array in arrays.items()
                if name.startswith(("auc/", "final/", "noise/"))
            }
            curves = {
                name.removeprefix("curve/"): array[:, index]
                for name, array in arrays.items()
                if name.startswith("curve/")
            }
            # Fresh runs know where they began: almost at the initial parameters.
            values |= {f"first/{name}": curve[0] for name, curve in curves.items()}
            steps = arrays.get("steps", np.zeros(0, dtype=np.int64))
            lost = arrays["diverged"][index]
            result.append(Row(cell, by_sizes[sizes], values, lost, curves, steps))
    return result


def panels_of(all_rows: Iterable[Row]) -> list[tuple[str, str]]:
    """Return the panels that rows stand in, in their order."""
    return list(dict.fromkeys(row.panel for row in all_rows))


def _grouped(all_rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for row in all_rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _ratio(row: Row, by: str = "ratio") -> str:
    return f"{getattr(row.configuration, by):g}"


def best(several: Iterable[Row], select: str) -> Row | None:
    """Return the row of the best score, of the smallest step among equals; None if all diverged."""
    ordered = sorted(several, key=lambda row: (row.score(select), row.swept))
    return ordered[0] if ordered and math.isfinite(ordered[0].score(select)) else None


def selected(all_rows: Sequence[Row], select: str, by: str = "ratio") -> list[Row]:
    """Return the best row of every rule and ratio in every panel, where not all diverged.

    by: which ratio, `ratio` (β/α) or `auxiliary_ratio` (η/β)
    """
    groups = _grouped(all_rows, lambda row: (*row.panel, row.cell.rule, _ratio(row, by)))
    chosen = (best(group, select) for group in groups.values())
    return [row for row in chosen if row is not None]


def selected_by_rule(all_rows: Sequence[Row], select: str) -> list[Row]:
    """Return the best row of every rule in every panel, where not all diverged."""
    groups = _grouped(all_rows, lambda row: (*row.panel, row.cell.rule))
    chosen = (best(group, select) for group in groups.values())
    return [row for row in chosen if row is not None]


def described(row: Row) -> dict[str, Any]:
    """Return the columns that say which configuration a row is of."""
    configuration = row.configuration
    return {
        "problem": row.cell.problem,
        "sampling": row.cell.sampling,
        "rule": row.cell.rule,
        "learned": row.cell.learned,
        "ratio": configuration.ratio,
        "auxiliary_ratio": configuration.auxiliary_ratio,
        "body_step": configuration.body_step,
        "head_step": configuration.head_step,
        "auxiliary_step": configuration.auxiliary_step,
        "runs": len(row.diverged),
        "diverged": int(row.diverged.sum()),
    }


def summarised(row: Row) -> dict[str, float]:
    """Return mean, 95 % interval over runs and median of everything measured, over survivors."""
    names = sorted(row.values)
    if not names:
        return {}
    stacked = np.stack([row.values[name] for name in names])
    # All that a study measures are errors.
    interval = mean_interval(stacked, logarithm=True)
    result = {}
    for index, name in enumerate(names):
        column = name.replace("/", "_")
        finite = stacked[index][np.isfinite(stacked[index])]
        result[column] = float(interval.mean[index])
        result[f"{column}_low"] = float(interval.low[index])
        result[f"{column}_high"] = float(interval.high[index])
        result[f"{column}_median"] = float(np.median(finite)) if finite.size else math.nan
    return result


def compared(row: Row, baseline: Row | None) -> dict[str, float]:
    """Return mean and 95 % interval of the differences from the baseline, run by run.

    Runs of one number share initial parameters and streams. A pair counts where both survive.
    """
    if baseline is None:
        return {}
    result = {}
    for name in sorted(name for name in row.values if not name.startswith("noise/")):
        difference = paired_difference(row.values[name], baseline.values[name])
        column = name.replace("/", "_") + "_difference"
        result[column] = float(difference.mean)
        result[f"{column}_low"] = float(difference.low)
        result[f"{column}_high"] = float(difference.high)
    return result


class Report(NamedTuple):
    """A selected configuration on fresh runs.

    of_rule:  whether it is its rule's best of all ratios, by the runs it was selected on
    baseline: the best of the baseline's rule in this panel, on the same fresh runs
    """

    selection: Row
    fresh: Row
    of_rule: bool
    baseline: Row | None

    @property
    def of_baseline(self) -> bool:
        """Return whether it is a report of the baseline's own rule."""
        return self.baseline is not None and self.baseline.cell.rule == self.fresh.cell.rule

    def columns(self, select: str) -> dict[str, Any]:
        """Return the report as the columns of a table."""
        return {
            **described(self.fresh),
            "best_of_rule": int(self.of_rule),
            f"selected_by_{select}": self.selection.score(select),
            **summarised(self.fresh),
            **compared(self.fresh, self.baseline),
        }


def reports(
    swept: Sequence[Row], fresh: Sequence[Row], select: str, baseline: str, by: str = "ratio"
) -> list[Report]:
    """Put each selected configuration beside its fresh runs and the baseline's; by: `selected`."""
    by_configuration = {identity(row): row for row in fresh}
    of_rule = {identity(row) for row in selected_by_rule(swept, select)}
    bases = {
        row.panel: by_configuration[identity(row)]
        for row in selected_by_rule(swept, select)
        if row.cell.rule == baseline and identity(row) in by_configuration
    }
    return [
        Report(row, by_configuration[identity(row)], identity(row) in of_rule, bases.get(row.panel))
        for row in selected(swept, select, by)
        if identity(row) in by_configuration
    ]


def identity(row: Row) -> tuple[Any, ...]:
    """Return what tells a configuration of a study from all its others."""
    sizes = (row.configuration.body_step, row.configuration.head_step)
    return (*row.panel, row.cell.rule, _ratio(row), *sizes, row.configuration.auxiliary_step)
