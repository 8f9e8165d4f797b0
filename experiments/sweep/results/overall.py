"""One setting for all problems: how far each setting of a study is from the best of every panel."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.runs.results.intervals import Interval
from experiments.sweep.results.measures import ratio_over_problems, told_apart
from experiments.sweep.results.rows import Row
from experiments.sweep.results.tables import as_csv, markdown_table, ratio_text, step_text, title_of
from experiments.sweep.running.configurations import Configuration

StudyPanel = tuple[str, str]


class Overall(NamedTuple):
    """One setting of a rule in all panels of a study.

    factors: {panel: its score over the best score there}; infinite where a run diverged
    factor:  their geometric mean, every problem counting alike whatever the number of its panels
    """

    rule: str
    configuration: Configuration
    factors: dict[StudyPanel, float]
    factor: float

    @property
    def worst(self) -> StudyPanel:
        """Return the panel where it is furthest from the best."""
        return max(self.factors, key=lambda panel: self.factors[panel])


def _geometric_mean(factors: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, factors)) / len(factors))


def _over_problems(factors: Mapping[StudyPanel, float]) -> float:
    by_problem: dict[str, list[float]] = {}
    for (problem, _), factor in factors.items():
        by_problem.setdefault(problem, []).append(factor)
    return _geometric_mean([_geometric_mean(several) for several in by_problem.values()])


def overall(swept: Sequence[Row], select: str) -> list[Overall]:
    """Return the settings that stand in every panel, those of the least factor first.

    Panels in which nothing survives, or where the best error is 0 or rounding, compare nothing and
    are left out.
    """
    scores: dict[StudyPanel, dict[Any, float]] = {}
    settings: dict[Any, tuple[str, Configuration]] = {}
    for row in swept:
        # A number that does not exist equals nothing: as text it does.
        key = (row.cell.rule, *map(str, row.configuration))
        settings[key] = (row.cell.rule, row.configuration)
        scores.setdefault(row.panel, {})[key] = row.score(select)
    best = {panel: min(of.values()) for panel, of in scores.items()}
    scores = {panel: of for panel, of in scores.items() if told_apart([*of.values()])}
    found = []
    for key, (rule, configuration) in settings.items():
        if scores and all(key in of for of in scores.values()):
            factors = {panel: of[key] / best[panel] for panel, of in scores.items()}
            found.append(Overall(rule, configuration, factors, _over_problems(factors)))
    return sorted(found, key=lambda each: each.factor)


def chosen_on_the_others(settings: Sequence[Overall]) -> dict[str, Interval]:
    """Return {rule: the factor of a setting on a problem it was not chosen on}, over problems.

    For each problem the setting with the least factor over all others is taken. Geometric mean
    and 95 % interval over problems; a setting that diverges there is left out of both.
    """
    problems = list(dict.fromkeys(problem for each in settings for problem, _ in each.factors))
    by_rule: dict[str, list[dict[str, float]]] = {}
    for each in settings:
        by_problem = {
            problem: _geometric_mean(
                [factor for panel, factor in each.factors.items() if panel[0] == problem]
            )
            for problem in problems
        }
        by_rule.setdefault(each.rule, []).append(by_problem)
    found = {}
    for rule, several in by_rule.items():
        factors = []
        for problem in problems if len(problems) > 1 else []:
            others = [name for name in problems if name != problem]
            chosen = min(several, key=lambda of: _geometric_mean([of[name] for name in others]))
            factors.append(chosen[problem])
        found[rule] = ratio_over_problems(np.array(factors))
    return found


def overall_csv(settings: Sequence[Overall]) -> str:
    """Return a row a setting: its steps, its factor, and that in every panel."""
    return as_csv(
        [
            {
                "rule": each.rule,
                **each.configuration._asdict(),
                "factor": each.factor,
                **{" ".join(panel): factor for panel, factor in each.factors.items()},
            }
            for each in settings
        ]
    )


def overall_markdown(settings: Sequence[Overall], select: str) -> str:
    """Return the best setting of every rule and ratio as a Markdown table."""
    best: dict[tuple[str, str], Overall] = {}
    for each in settings:
        best.setdefault((each.rule, step_text(each.configuration.ratio)), each)
    heads = ["rule", "α", "β", "η", "β/α", "times the best", "at worst", "there"]
    lines = [
        [
            each.rule,
            step_text(each.configuration.body_step or math.nan),
            step_text(each.configuration.head_step) if ratio != "∞" else "–",
            step_text(each.configuration.auxiliary_step)
            if not math.isnan(each.configuration.auxiliary_ratio)
            else "–",
            ratio,
            f"{each.factor:.3g}" if math.isfinite(each.factor) else "diverged",
            f"{each.factors[each.worst]:.3g}" if math.isfinite(each.factor) else "–",
            ", ".join(each.worst),
        ]
        for (_, ratio), each in best.items()
    ]
    elsewhere = [
        [rule, ratio_text(factor)]
        for rule, factor in chosen_on_the_others(settings).items()
        if math.isfinite(factor.mean)
    ]
    other = markdown_table([["rule", "chosen on the other problems"], *elsewhere])
    return (
        f"{markdown_table([heads, *lines])}\n\n{other}\n\n"
        f"One setting for all problems, on the runs of the sweep: {title_of(select)}, as a "
        "multiple of the best of each panel, geometric mean over problems. *Chosen on the other "
        "problems*: for each problem the setting that is best on all others, with a 95 % interval "
        "over problems.\n"
    )
