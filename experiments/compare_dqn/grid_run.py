"""A comparison over a grid of rates: candidates from some seeds, the best from fresh ones."""

import numpy as np
import torch

from agents.dqn.replay import check_capacity, replay_bytes
from experiments.compare_dqn.folder import comparison_folder
from experiments.compare_dqn.grid import (
    Candidate,
    best_candidate,
    candidates,
    entrants,
)
from experiments.compare_dqn.grid_figure import grid_figure
from experiments.compare_dqn.grid_report import GameReport, grid_summary, grid_table, last_scores
from experiments.compare_dqn.parts import run_stage
from experiments.compare_dqn.random_policy import random_score
from experiments.compare_dqn.settings import FIRST_SELECTION_SEED, Comparison
from experiments.runs.command_line.checks import UsageError, named
from experiments.runs.command_line.computing import resolve_device
from experiments.runs.folder.files import write_json
from experiments.runs.folder.folder_contents import FIGURE, SUMMARY
from experiments.runs.results.phases import PhaseClock, rounded
from experiments.train_dqn.build import games, network_of
from neural_tdc.device_memory import GIGABYTE, check_memory

SELECTION, REPORT = "selection", "report"


def _all_candidates(comparison: Comparison) -> list[Candidate]:
    """Return the candidates of all entrants, each once."""
    return list(
        dict.fromkeys(
            each for entrant in entrants(comparison) for each in candidates(comparison, entrant)
        )
    )


def _check(comparison: Comparison) -> None:
    """Raise UsageError for a game, network or replays that a grid cannot have; print its size."""
    settings, choices = comparison.settings, _all_candidates(comparison)
    largest = max(
        len(choices) * settings.selection_seeds, len(entrants(comparison)) * settings.seeds
    )
    for game in settings.problem:
        for candidate in choices:
            run = comparison.member(game, candidate._asdict())
        device = resolve_device(run.device)
        environments = games(run, 1)
        try:
            if environments.stack != 1:
                raise UsageError(f"--grid does not work on {game}: it has stacks of frames")
            network_of(run, environments)
            size = replay_bytes(
                largest * run.replay_capacity, environments.frame_shape, environments.dtype
            )
        finally:
            environments.close()
        frames = f"{largest} replays of {run.replay_capacity:,} frames"
        with named(f"--replay-capacity {run.replay_capacity}"):
            check_capacity(run.replay_capacity, 1, stack=1, steps=run.n_step)
            check_memory(f"holding {frames}", size[0], device, size[1])
        print(
            f"{game}: {len(choices)} candidates from {settings.selection_seeds} seeds, then the "
            f"best from {settings.seeds}, {run.steps:,} agent steps each on {device}; "
            f"{frames} take {sum(size) / GIGABYTE:.3g} GB"
        )
    # As for single runs: small layers lose more by waiting than they gain.
    torch.set_num_threads(run.threads or 1)


def compare_grid(comparison: Comparison, clock: PhaseClock) -> None:
    """Run what is missing of both stages on every game, and write table, figure and summary."""
    _check(comparison)
    with comparison_folder(comparison):
        reports = {
            game: _compare_on(comparison, game, clock) for game in comparison.settings.problem
        }
        clock.switch("write")
        settings = comparison.settings
        grid_figure(settings.out / FIGURE, reports, settings.vector)
        summary = grid_summary(reports)
        write_json(settings.out / SUMMARY, summary | {"seconds": rounded(clock.seconds())})
        print(f"\n{grid_table(summary)}\n\nfigure: {settings.out / FIGURE}")


def _compare_on(comparison: Comparison, game: str, clock: PhaseClock) -> GameReport:
    settings = comparison.settings
    clock.switch("measure")
    random = random_score(comparison, game)["mean"]
    choices = _all_candidates(comparison)
    seeds = range(FIRST_SELECTION_SEED, FIRST_SELECTION_SEED + settings.selection_seeds)
    runs = [(each, seed) for each in choices for seed in seeds]
    selection = run_stage(comparison, game, SELECTION, runs, clock)
    scores = {}
    for each in choices:
        found, lost = selection.of(each)
        # A run that diverged is infinitely bad, whatever it scored.
        scores[each] = np.where(lost, -np.inf, last_scores(found))
    chosen = {
        entrant: best_candidate(scores, candidates(comparison, entrant))
        for entrant in entrants(comparison)
    }
    winners = list(dict.fromkeys(winner for winner, _ in chosen.values()))
    runs = [(each, seed) for each in winners for seed in comparison.seeds]
    report = run_stage(comparison, game, REPORT, runs, clock)
    return GameReport(random, chosen, scores, report)
