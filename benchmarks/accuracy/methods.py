"""The methods of the accuracy benchmark, each from a case to values where the truth is known."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.accuracy.cases import TRANSITIONS, Case
from benchmarks.accuracy.criteria import candidate_errors, regrets
from benchmarks.accuracy.peers import PEERS
from neural_tdc import evaluate
from neural_tdc.baselines.candidates import Folds
from neural_tdc.baselines.log_preparation import ordered_stream
from neural_tdc.baselines.method import learned_values
from neural_tdc.baselines.methods import METHODS
from neural_tdc.baselines.search.learned_candidates import (
    LearnedCandidates,
    learn_candidates,
    weighted_value,
)
from neural_tdc.baselines.search.rule_candidates import rule_groups
from neural_tdc.best_value import FOLDS, choose_candidates
from neural_tdc.presets import PRESETS, preset

# Learning rules that are candidates next to the others, and updates of each.
RULES, RULE_UPDATES = ("td", "tdc", "tdrc"), 3_000

# From (case, seed, what other methods have left) to values at the truth's states and more to note.
Learn = Callable[[Case, int, dict[str, Any]], tuple[Tensor, dict[str, Any]]]


def _auto(case: Case, seed: int, left: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    begun = time.perf_counter()
    candidates = learn_candidates(ordered_stream(case.stream), FOLDS, seed, 256, 8_000)
    left["candidates"] = candidates
    return _chosen(candidates, case, seed, begun)


def _auto_with_rules(case: Case, seed: int, left: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    if "candidates" not in left:
        _auto(case, seed, left)
    begun, candidates = time.perf_counter(), left["candidates"]
    rest = [[p for p in range(FOLDS) if p != fold] for fold in range(FOLDS)]
    folds = Folds(candidates.parts, rest)
    groups = [*candidates.groups, *rule_groups(folds, RULES, RULE_UPDATES, seed)]
    return _chosen(candidates._replace(groups=groups), case, seed, begun)


def _chosen(
    candidates: LearnedCandidates, case: Case, seed: int, begun: float
) -> tuple[Tensor, dict[str, Any]]:
    """Return the choice and, with the truth, what it could have been.

    begun: when learning began; the seconds end before anything looks at the truth
    """
    choice = choose_candidates(candidates, seed)
    value = weighted_value(candidates, choice.weights)(case.observation)
    seconds = time.perf_counter() - begun
    squared = float(case.weighting @ (value - case.value).square()) - case.noise
    families: dict[str, dict[str, float]] = {}
    spread, errors = spread_of(case), candidate_errors(candidates, case)
    for index, (family, _) in enumerate(candidates.names):
        row = families.setdefault(family, {"weight": 0.0, "least": float("inf")})
        row["weight"] += float(choice.weights[index])
        if bool(errors[index].isfinite()):
            row["least"] = min(row["least"], float(errors[index]) / spread)
    for rank, found in enumerate(choice.ranking):
        alone = float(case.weighting @ (found.value(case.observation) - case.value).square())
        error = max(alone - case.noise, 0.0) ** 0.5 / spread
        families[found.family] |= {"rank": rank, "error": error}
    more = {
        "seconds": seconds,
        "families": families,
        "regret": regrets(candidates, case, max(squared, 0.0) ** 0.5),
    }
    return value, more


def spread_of(case: Case) -> float:
    """Return the standard deviation of the true values over states."""
    mean = case.weighting @ case.value
    return float((case.weighting @ (case.value - mean).square()).sqrt())


def _rule(rule: str | None = None, named: str | None = None, **changed: Any) -> Learn:
    """Return a method that learns by a rule, on standardised observations, compiled as in programs.

    named: the preset that settles the rule and all else; without both, the one for the case's kind
    """

    def learn(case: Case, seed: int, left: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        mean = case.stream.observation.mean(0)
        deviation = case.stream.observation.std(0, unbiased=False)
        scaled = case.stream._replace(
            observation=(case.stream.observation - mean) / deviation,
            next_observation=(case.stream.next_observation - mean) / deviation,
        )
        single = type(scaled)(*(leaf.float() for leaf in scaled if leaf is not None))
        usual = "off-policy" if case.off_policy else "accurate"
        chosen = {"rule": rule} if rule else preset(named or usual)
        result = evaluate(
            single,
            steps=TRANSITIONS,
            held_out=0.01,
            measure_every=TRANSITIONS,
            seed=seed,
            compiled=True,
            **{**chosen, **changed},
        )
        return result.value(((case.observation - mean) / deviation).float(), run=0), {}

    return learn


def _method(name: str, **settings: Any) -> Learn:
    def learn(case: Case, seed: int, left: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        method = METHODS[name].with_settings(**settings)
        return learned_values(method, [case.stream], seed)[0](case.observation), {}

    return learn


def _peer(function: Callable[..., Any]) -> Learn:
    def learn(case: Case, seed: int, left: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        value = function(case.log, case.discount)(case.observation.numpy(), case.policy)
        return torch.as_tensor(value), {}

    return learn


PRODUCT: dict[str, Learn] = {
    "auto": _auto,
    "lstd-random": _method("lstd-random"),
    "stackelberg-td": _method("stackelberg-td"),
}
# Whether another policy acts on the problems that a preset is for; the others are for both kinds.
OFF_POLICY = {"fast": False, "accurate": False, "on-policy": False, "off-policy": True}
# The product's presets, the one of the case's kind with a frozen body as control, and Algorithm 1
# at its default steps.
RULE_METHODS: dict[str, Learn] = {
    **{name: _rule(named=name) for name in PRESETS},
    "frozen body": _rule(body_step=0.0),
    "algorithm 1": _rule(rule="tdc"),
}
# Of the designed problems, and of those where learning rules are asked for as candidates.
REFITS: dict[str, Learn] = {"stackelberg-td, refits": _method("stackelberg-td", solves="refits")}
WITH_RULES: dict[str, Learn] = {"auto with rules": _auto_with_rules}


def methods_of(case: Case, *, with_rules: bool) -> dict[str, Learn]:
    """Return the methods that are run on a case, by name."""
    found = {**PRODUCT, **(WITH_RULES if with_rules else {})}
    if case.log is None:
        return {**found, **REFITS}
    peers = {
        n: _peer(f) for n, (f, off_policy) in PEERS.items() if off_policy or not case.off_policy
    }
    rules = {
        name: learn
        for name, learn in RULE_METHODS.items()
        if OFF_POLICY.get(name, case.off_policy) == case.off_policy
    }
    return {**found, **rules, **peers}
