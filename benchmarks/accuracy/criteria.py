"""How well criteria without a truth choose among the candidates of `auto`, with the truth known."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.accuracy.cases import Case
from neural_tdc.baselines.candidates import group_values
from neural_tdc.baselines.log_preparation import joined
from neural_tdc.baselines.search.learned_candidates import LearnedCandidates, held_out_values
from neural_tdc.metrics.selection import held_out_scores, td_error_scores, tournament_scores


def candidate_errors(candidates: LearnedCandidates, case: Case) -> Float[Tensor, " candidate"]:
    """Return every candidate's RMSVE, the mean over its folds; not finite where its values are."""
    inputs = (case.observation - candidates.shift) / candidates.scale
    found = []
    for group in candidates.groups:
        folds = [group_values(group, fold, inputs) for fold in range(len(candidates.parts))]
        found.append(torch.stack(folds).mean(0))
    value = candidates.units.level + candidates.units.scale * torch.cat(found, 1)
    value = value.clamp(*candidates.limits)
    squared = case.weighting @ (value - case.value[:, None]).square() - case.noise
    return squared.clamp(min=0).sqrt()


def regrets(candidates: LearnedCandidates, case: Case, error_of_auto: float) -> dict[str, Any]:
    """Return the error of the best candidate, and what each criterion's choice has relative to it.

    error_of_auto: RMSVE of the mean that `auto` takes
    """
    error = candidate_errors(candidates, case)
    error = torch.where(error.isfinite(), error, torch.inf)
    values, whole = held_out_values(candidates), joined(candidates.parts)
    finite = values.finite
    values = values.of(finite)
    least = float(error.min())
    scores = {
        "best scored": held_out_scores(values, whole),
        "tournament": tournament_scores(values, whole),
        "TD error": td_error_scores(values, whole),
    }
    chosen = {name: float(error[finite][score.argmin()]) for name, score in scores.items()}
    ratios = {name: each / least for name, each in {"auto": error_of_auto, **chosen}.items()}
    return {"least": least, "candidates": len(error), "relative": ratios}
