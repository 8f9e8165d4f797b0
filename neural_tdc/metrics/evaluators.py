"""Judges: from the parameters of a population to its errors, batched over the runs.

On a finite chain everything is exact. Elsewhere the second moments are means over transitions
that the learner did not see, and the truth, where there is one, is a Monte Carlo estimate.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_leaves

from neural_tdc.learning.learner import Evaluator
from neural_tdc.metrics.markov_chain import MarkovChain
from neural_tdc.metrics.value_errors import Moments, measure
from neural_tdc.networks.bodies import FeatureMap
from neural_tdc.rules.rule import LearningRule
from neural_tdc.types import Parameters, Transition, mapped

# Bytes of features that a judge holds at a time; a large population is judged part by part.
MEMORY = 2**28

# The names under which logs and files know the errors of `errors.measure` and the norms.
NAMES = {
    "rmsve": "error/rmsve",
    "rmspbe": "error/rmspbe",
    "lstd_rmsve": "error/lstd_rmsve",
    "best_linear_rmsve": "error/best_linear_rmsve",
    "rmstde": "error/rmstde",
    "head_tracking_error": "tracking_error/head",
    "auxiliary_tracking_error": "tracking_error/auxiliary",
    "auxiliary_size": "tracking_error/auxiliary_size",
    "smallest_eigenvalue": "features/smallest_eigenvalue",
    "effective_rank": "features/effective_rank",
    "body": "norm/body",
    "head": "norm/head",
    "auxiliary": "norm/auxiliary",
}


class Truth(NamedTuple):
    """The value of a policy at some observations.

    observation:    [state, *observation]
    weighting:      [state] d, sums to 1
    value:          [state] v
    squared_error:  weighted mean of the squared standard errors of v, 0 where v is exact
    """

    observation: Tensor
    weighting: Tensor
    value: Tensor
    squared_error: float


def norms(parameters: Parameters) -> dict[str, Tensor]:
    """Return the Euclidean norm of each part of one run."""

    def norm(part: Any) -> Tensor:
        leaves = [leaf.square().sum() for leaf in tree_leaves(part)]
        zero = torch.zeros_like(parameters.head[0])
        return (torch.stack(leaves).sum() if leaves else zero).sqrt()

    return {name: norm(part) for name, part in parameters._asdict().items()}


def sampled_moments(
    transitions: Transition,
    feature: Float[Tensor, "sample d"],
    next_feature: Float[Tensor, "sample d"],
) -> Moments:
    """Return the means A, b₀, C over a sample of transitions drawn by the behaviour policy."""
    weighted = feature * transitions.ratio[:, None] / len(feature)
    difference = feature - transitions.discount[:, None] * next_feature
    return Moments(
        A=weighted.mT @ difference,
        b0=weighted.mT @ transitions.reward,
        C=feature.mT @ feature / len(feature),
    )


def chain_evaluator(
    chain: MarkovChain,
    observation: Float[Tensor, "state *observation"],
    features: FeatureMap,
    rule: LearningRule,
) -> Evaluator:
    """Return the judge of a finite chain, with the observation of every state; all is exact."""
    observation = observation.double()
    value = chain.value()

    def one(parameters: Parameters) -> dict[str, Tensor]:
        feature = features(parameters.body, observation)
        moments = chain.moments(feature)
        return _errors(rule, parameters, moments, feature, chain.weighting, value, 0.0)

    return _in_groups(one, len(observation))


def sample_evaluator(
    held_out: Transition,
    truth: Truth | None,
    features: FeatureMap,
    rule: LearningRule,
) -> Evaluator:
    """Return the judge of a problem that is known by transitions alone.

    held_out: transitions [sample, …] that the learner does not see, for A, b₀, C and for RMSTDE,
        the root mean of ρδ²
    truth:    the value at some states; None leaves out the errors that need it
    """
    held_out = mapped(held_out, Tensor.double)
    count = len(held_out.reward)
    states = [] if truth is None else [truth.observation.double()]
    observations = torch.cat([held_out.observation, held_out.next_observation, *states])

    def one(parameters: Parameters) -> dict[str, Tensor]:
        everywhere = features(parameters.body, observations)
        feature, next_feature = everywhere[:count], everywhere[count : 2 * count]
        moments = sampled_moments(held_out, feature, next_feature)
        following = held_out.discount * (next_feature @ parameters.head)
        td_error = held_out.reward + following - feature @ parameters.head
        error = (held_out.ratio * td_error.square()).mean().sqrt()
        if truth is None:
            uniform = torch.full_like(held_out.reward, 1 / count)
            unknown = torch.zeros_like(held_out.reward)
            values = _errors(rule, parameters, moments, feature, uniform, unknown, 0.0)
            for name in ("rmsve", "lstd_rmsve", "best_linear_rmsve"):
                del values[name]
        else:
            at_truth = everywhere[2 * count :]
            values = _errors(
                rule,
                parameters,
                moments,
                at_truth,
                truth.weighting.double(),
                truth.value.double(),
                truth.squared_error,
            )
        return {**values, "rmstde": error}

    return _in_groups(one, len(observations))


def _errors(
    rule: LearningRule,
    parameters: Parameters,
    moments: Moments,
    feature: Tensor,
    weighting: Tensor,
    value: Tensor,
    squared_error: float,
) -> dict[str, Tensor]:
    omega = getattr(rule, "omega", lambda parameters: None)(parameters)
    vector, regulariser = omega or (None, 0.0)
    head = parameters.head
    errors = measure(moments, feature, weighting, value, squared_error, head, vector, regulariser)
    return {**errors, **norms(parameters)}


def _in_groups(one: Callable[[Parameters], dict[str, Tensor]], observations: int) -> Evaluator:
    """Batch a judge of one run over all, part by part, and give its values their names."""

    def evaluator(parameters: Parameters) -> dict[str, Tensor]:
        width = parameters.head.shape[1] * observations * parameters.head.element_size()
        values = torch.vmap(one, chunk_size=max(1, MEMORY // (4 * width)))(parameters)
        return {NAMES[name]: value for name, value in values.items()}

    return evaluator
