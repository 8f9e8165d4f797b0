"""The command line of `experiments.evaluate_policy` that runs the winner of a study."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.runs.command_line.settings import setting_fields
from experiments.sweep.results.rows import Row, best, panels_of
from experiments.sweep.results.tables import step_text
from experiments.sweep.running.shard import reported_settings
from experiments.sweep.settings.sweep_settings import SweepSettings

# A line leaves the folder to whoever runs it.
_LEFT_OUT = ("out", "resume", "overwrite", "preset")


def winner_lines(swept: Sequence[Row], select: str, settings: SweepSettings) -> list[str]:
    """Return the line that runs the best configuration of each panel where not all diverged.

    It runs on the seeds that the study reports, so that its errors are those of the tables.
    """
    learned = [row for row in swept if not row.cell.control]
    panels = panels_of(learned)
    winners = [best([row for row in learned if row.panel == panel], select) for panel in panels]
    return [_line(winner, settings) for winner in winners if winner is not None]


def _line(winner: Row, settings: SweepSettings) -> str:
    cell, configuration = winner.cell, winner.configuration
    evaluation = replace(
        reported_settings(cell, settings),
        body_step=configuration.body_step,
        head_step=configuration.head_step,
        auxiliary_step=configuration.auxiliary_step,
    )
    idle = {*_LEFT_OUT, *cell.plan.idle}
    if math.isnan(configuration.ratio):
        idle.add("body_step")
    if math.isinf(configuration.ratio):
        idle.add("head_step")
    if math.isnan(configuration.auxiliary_ratio):
        idle.add("auxiliary_step")
    words = EvaluationSettings.program.split()
    for name, setting in setting_fields(EvaluationSettings).items():
        value = getattr(evaluation, name)
        if name not in idle and value != setting.default:
            given = value if setting.several else () if setting.kind is bool else (value,)
            words += [setting.flag, *map(_word, given)]
    return shlex.join(words)


def _word(value: Any) -> str:
    """Return a value as a flag reads it: powers of two as such, other numbers with all digits."""
    power = step_text(value) if isinstance(value, float) else ""
    return power if "^" in power else str(value)
