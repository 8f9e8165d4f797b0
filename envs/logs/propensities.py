"""Behaviour probabilities estimated from a log: a classifier of actions, with a held-out score.

Three classifiers learn from four fifths of the episodes (of blocks of rows where episodes are few):
the frequencies of the actions, a linear softmax regression, and a network of two hidden layers.
Each stops where the mean logarithm of the probability of the held-out actions is largest, and the
one with the largest is taken.
"""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from envs.logs.log import Log
from envs.logs.ratios import logged_action
from neural_tdc.byte_rows import (
    as_numbers,
    byte_rows,
    in_given_units,
    observation_units,
    row_blocks,
)
from neural_tdc.one_thread import one_thread

ESTIMATE = "estimate"
# Every fifth episode, or block of so many rows, is held out.
_PARTS, _BLOCK_ROWS = 5, 50
_UNITS, _BATCH = 64, 256
_MOST_UPDATES, _SCORED_EVERY, _PATIENCE = 4_000, 50, 5
_STEP_SIZES = {"softmax regression": 0.02, "network": 0.003}
FREQUENCIES = "frequencies"


class Propensities(NamedTuple):
    """Estimated probabilities of logged actions.

    probability: [time] of the action taken
    classifier:  the name of the one that was chosen
    scores:      {classifier: mean log-probability of held-out actions}
    held_out:    rows that the scores are means over
    """

    probability: np.ndarray
    classifier: str
    scores: dict[str, float]
    held_out: int

    def note(self, source: str) -> str:
        """Return a line that says how the probabilities were found, and how good they are."""
        others = ", ".join(
            f"{score:.4f} by {name}"
            for name, score in self.scores.items()
            if name != self.classifier
        )
        return (
            f"{source}: probabilities of the behaviour estimated by {self.classifier}: mean "
            f"log-probability of {self.held_out:,} held-out actions "
            f"{self.scores[self.classifier]:.4f} ({others})"
        )


def estimated_propensities(log: Log, seed: int = 0) -> Propensities:
    """Estimate b(a|s) of the logged actions.

    Raises ValueError in one line for actions that are missing or continuous, and for a log of too
    few rows to hold some out.
    """
    action = logged_action(log, "an estimate of the behaviour")
    if action.ndim > 1:
        raise ValueError(
            f"{log.source} has continuous actions or several per step: the behaviour is estimated "
            "for one discrete action per step only; give behaviour_probability or the policy"
        )
    unseen = _held_out(log.terminated | log.truncated)
    if not unseen.any() or unseen.all():
        raise ValueError(
            f"{log.source} has {len(action)} rows, too few to estimate the behaviour and to hold "
            f"some out: at least {_PARTS * _BLOCK_ROWS}"
        )
    taken, actions = torch.from_numpy(action), int(action.max()) + 1
    seen = _standardised(log.observation, ~unseen)
    outside = torch.get_rng_state()
    try:
        with one_thread():
            found = dict(_classifiers(seen, taken, torch.from_numpy(unseen), actions, seed))
    finally:
        torch.set_rng_state(outside)
    scores = {name: score for name, (score, _) in found.items()}
    best = max(scores, key=lambda name: scores[name])
    chances = _log_probability(found[best][1], seen, taken).exp().double().numpy()
    return Propensities(chances, best, scores, int(unseen.sum()))


def _held_out(ended: np.ndarray) -> np.ndarray:
    """Return the rows of every fifth episode, or block of rows where there are few episodes."""
    number = np.cumsum(np.append(0, ended[:-1]))
    if number[-1] + 1 < 4 * _PARTS:
        number = np.arange(len(ended)) // _BLOCK_ROWS
    unseen: np.ndarray = number % _PARTS == _PARTS - 1
    return unseen


def _standardised(observation: np.ndarray, known: np.ndarray) -> Tensor:
    flat = byte_rows(torch.from_numpy(observation.reshape(len(observation), -1))).double()
    return in_given_units(flat, *observation_units(flat[torch.from_numpy(known)])).float()


def _classifiers(
    seen: Tensor, taken: Tensor, unseen: Tensor, actions: int, seed: int
) -> Iterator[tuple[str, tuple[float, nn.Module]]]:
    """Return the name, the held-out score and the module of each classifier."""
    torch.manual_seed(seed)
    counts = torch.bincount(taken[~unseen], minlength=actions).float() + 1
    constant = nn.Linear(seen.shape[1], actions)
    with torch.no_grad():
        constant.weight.zero_()
        constant.bias.copy_((counts / counts.sum()).log())
    yield FREQUENCIES, (_score(constant, seen, taken, unseen), constant)
    yield "softmax regression", _fitted(copy.deepcopy(constant), seen, taken, unseen)
    network = nn.Sequential(
        nn.Linear(seen.shape[1], _UNITS),
        nn.Tanh(),
        nn.Linear(_UNITS, _UNITS),
        nn.Tanh(),
        nn.Linear(_UNITS, actions),
    )
    yield "network", _fitted(network, seen, taken, unseen)


def _fitted(
    module: nn.Module, seen: Tensor, taken: Tensor, unseen: Tensor
) -> tuple[float, nn.Module]:
    """Fit a classifier by Adam and return it as it was at its best held-out score."""
    known = (~unseen).nonzero().flatten()
    rate = _STEP_SIZES["network" if isinstance(module, nn.Sequential) else "softmax regression"]
    optimizer = torch.optim.Adam(module.parameters(), rate, fused=True)
    best, kept, waited = -float("inf"), copy.deepcopy(module), 0
    for update in range(1, _MOST_UPDATES + 1):
        rows = known[torch.randint(len(known), (_BATCH,))]
        loss = nn.functional.cross_entropy(module(as_numbers(seen[rows])), taken[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update % _SCORED_EVERY:
            continue
        score = _score(module, seen, taken, unseen)
        if score > best:
            best, kept, waited = score, copy.deepcopy(module), 0
        elif (waited := waited + 1) == _PATIENCE:
            break
    return best, kept


def _score(module: nn.Module, seen: Tensor, taken: Tensor, unseen: Tensor) -> float:
    return float(_log_probability(module, seen[unseen], taken[unseen]).mean())


@torch.no_grad()
def _log_probability(module: nn.Module, seen: Tensor, taken: Tensor) -> Tensor:
    found = [
        module(as_numbers(seen[rows])).log_softmax(1).gather(1, taken[rows, None])[:, 0]
        for rows in row_blocks(seen)
    ]
    return torch.cat(found)
