"""What a study leaves in its folder: tables and figures of every way to select, and a summary."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.runs.folder.files import write_json, write_text
from experiments.runs.folder.folder_contents import SUMMARY, folder_name
from experiments.runs.recording.finished_parts import seconds_to_write
from experiments.runs.results.report import large_number, tensorboard_line
from experiments.sweep.results import figures, tables
from experiments.sweep.results.agreement import agreement_markdown
from experiments.sweep.results.hparams import HPARAMS, write_hparams
from experiments.sweep.results.measures_figure import measures_figure
from experiments.sweep.results.over_problems import (
    compared_panels,
    measures_markdown,
    rules_over_problems,
)
from experiments.sweep.results.overall import overall, overall_csv, overall_markdown
from experiments.sweep.results.relative import relative_figure, relative_markdown
from experiments.sweep.results.reselection import selection_markdown
from experiments.sweep.results.rows import Report, panels_of, reports
from experiments.sweep.results.step_ratios import (
    step_ratios,
    step_ratios_figure,
    step_ratios_markdown,
)
from experiments.sweep.results.winner import winner_lines
from experiments.sweep.run import Study

SWEEP = "sweep.csv"
# One of each for every way to select.
SELECTED, SENSITIVITY, MAP = "selected", "sensitivity", "map"
CURVES, RELATIVE, OVERALL = "curves", "relative", "overall"
RESELECTION, MEASURES = "selection", "measures"
# By which ratio of steps.
RATIOS = {"ratio": "ratios", "auxiliary_ratio": "auxiliary-ratios"}
AGREEMENT = "agreement.md"


def remove_report(out: Path) -> None:
    """Remove what an earlier study left besides the files that every run has."""
    names = (SELECTED, SENSITIVITY, MAP, CURVES, RELATIVE, OVERALL, RESELECTION, MEASURES)
    drawn = (f"{name}-*" for name in (*names, *RATIOS.values()))
    events = f"{HPARAMS}/*/*/events.out.tfevents.*"
    for pattern in (SWEEP, AGREEMENT, *drawn, events):
        for path in out.glob(pattern):
            path.unlink()


def write_report(out: Path, study: Study) -> str:
    """Write everything about a study that has been run, and return what a reader wants first."""
    write_text(out / SWEEP, tables.sweep_csv(study.swept))
    baseline = study.settings.baseline or study.settings.rule[0]
    answers = {
        select: reports(study.swept, study.fresh, select, baseline)
        for select in study.settings.select
    }
    for select, several in answers.items():
        _write(out, select, study, several, baseline)
    if told := agreement_markdown(study.swept):
        write_text(out / AGREEMENT, told)
    first = study.settings.select[0]
    write_hparams(out, study.swept, answers[first])
    summary = _summary(out, study, answers)
    write_json(out / SUMMARY, summary)
    shown = [(out / f"{SELECTED}-{each}.md").read_text(encoding="utf-8") for each in answers]
    winners = winner_lines(study.swept, first, study.settings)
    return "\n".join(
        [
            *shown,
            f"{summary['configurations']} configurations, {summary['diverged']} of "
            f"{summary['runs']} runs diverged; {large_number(study.run_steps)} run-steps in "
            f"{study.seconds:.0f} s",
            *(f"best:   {line}" for line in winners),
            f"figure: {out / SENSITIVITY}-{first}.png",
            f"watch:  {tensorboard_line(out / HPARAMS)}",
            study.clock.line(),
        ]
    )


def _write(out: Path, select: str, study: Study, answers: list[Report], baseline: str) -> None:
    """Write the tables and draw the figures of one way to select."""
    swept, vector = study.swept, study.settings.vector
    write_text(out / f"{SELECTED}-{select}.csv", tables.selected_csv(answers, select))
    write_text(out / f"{SELECTED}-{select}.md", tables.markdown(answers, select, baseline))
    write_text(out / f"{SELECTED}-{select}.tex", tables.latex(answers, select, baseline))
    # What is said of choosing settings is said of the rules that are studied.
    learned = [row for row in swept if not row.cell.control]
    write_text(out / f"{RESELECTION}-{select}.md", selection_markdown(learned, select))
    panels = panels_of(swept)
    compared = compared_panels(swept, select)
    measured = rules_over_problems(swept, answers, select, baseline)
    lost = len(panels) - len(compared)
    told = measures_markdown(measured, select, baseline, lost)
    write_text(out / f"{MEASURES}-{select}.md", told)
    measures_figure(out / f"{MEASURES}-{select}.png", measured, select, baseline, vector)
    for by, name in RATIOS.items():
        several = reports(swept, study.fresh, select, baseline, by)
        if ratios := step_ratios(several, compared, select, by):
            write_text(out / f"{name}-{select}.md", step_ratios_markdown(ratios, select, by))
            step_ratios_figure(out / f"{name}-{select}.png", ratios, select, vector, by)
    if len(panels) > 1:
        settings = overall(learned, select)
        write_text(out / f"{OVERALL}-{select}.csv", overall_csv(settings))
        write_text(out / f"{OVERALL}-{select}.md", overall_markdown(settings, select))
    figures.sensitivity_figure(out / f"{SENSITIVITY}-{select}.png", swept, select, vector)
    for panel in panels:
        inside = [row for row in swept if row.panel == panel]
        if figures.has_map(inside):
            name = folder_name(f"{MAP}-{select}-{'-'.join(panel)}")
            figures.map_figure(out / f"{name}.png", inside, select, vector)
    best = [report.fresh for report in answers if report.of_rule]
    if best:
        error = select.partition("_")[2]
        figures.curves_figure(out / f"{CURVES}-{select}.png", best, error, vector)
        relative = relative_markdown(answers, select, baseline)
        write_text(out / f"{RELATIVE}-{select}.md", relative)
        relative_figure(out / f"{RELATIVE}-{select}.png", answers, select, vector)


def _summary(out: Path, study: Study, answers: Mapping[str, list[Report]]) -> dict[str, Any]:
    settings, swept = study.settings, study.swept
    return {
        "problems": list(dict.fromkeys(cell.problem for cell in study.cells)),
        "rules": list(settings.rule),
        "select": list(settings.select),
        "seed": settings.seed,
        "configurations": len(swept),
        "shards": len(study.distinct_shards()),
        "runs": sum(len(row.diverged) for row in swept),
        "diverged": sum(int(row.diverged.sum()) for row in swept),
        "configurations_with_divergence": sum(bool(row.diverged.any()) for row in swept),
        "configurations_all_diverged": sum(bool(row.diverged.all()) for row in swept),
        "dropped": study.notes,
        "seconds": seconds_to_write(
            out / SUMMARY, study.clock.seconds() | {"learn": study.seconds}, study.computed
        ),
        "run_steps": study.run_steps,
        "run_steps_per_second": study.run_steps / study.seconds if study.seconds else None,
        "best": {
            select: [report.columns(select) for report in several if report.of_rule]
            for select, several in answers.items()
        },
    }
