"""Evaluators compute the metrics of a population of parameters, batched over the runs.

They measure on the device where their data are. On a finite chain everything is exact. Elsewhere
the second moments are means over transitions that the learner did not see, and the truth, where
there is one, is a Monte Carlo estimate.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_map

from neural_tdc.metrics.markov_chain import MarkovChain
from neural_tdc.metrics.metric import (
    AuxiliaryEstimate,
    HeldOut,
    Measured,
    TrueValue,
    held_out_errors,
)
from neural_tdc.metrics.parts_of_runs import in_groups, in_parts, on_threads
from neural_tdc.metrics.projected_error import block_length
from neural_tdc.metrics.registry import measure
from neural_tdc.metrics.samples import Sample, moments_between, rows_of
from neural_tdc.metrics.value_errors import Moments
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Body, Evaluator, FeatureMap, Parameters

# Numbers of held-out features that are computed at a time.
_FEATURES = 2**20
# Large observations that are looked up at a time.
AT_ONCE = 256


class Truth(NamedTuple):
    """The value of a policy at some observations.

    observation:    [state, *observation]; or several rows a state, one after another, whose mean
                    features are the state's, [state · draw, row]
    weighting:      [state] d, sums to 1
    value:          [state] v
    squared_error:  weighted mean of the squared standard errors of v, 0 where v is exact
    """

    observation: Tensor
    weighting: Tensor
    value: Tensor
    squared_error: float


def chain_evaluator(
    chain: MarkovChain,
    observation: Float[Tensor, "state *observation"],
    features: FeatureMap,
    rule: Rule,
) -> Evaluator:
    """Return the evaluator of a finite chain, with the observation of every state; it is exact."""
    observation = observation.double()
    value = chain.value()

    def one(parameters: Parameters) -> dict[str, Tensor]:
        feature = features(parameters.body, observation)
        return measure(
            Measured(
                parameters,
                chain.moments(feature),
                truth=TrueValue(feature, chain.weighting, value),
                auxiliary=_auxiliary(rule, parameters),
            )
        )

    return at_home(in_groups(one, len(observation)), observation.device)


def action_chain_evaluator(
    pairs: MarkovChain,
    rows: Float[Tensor, "pair row"],
    truth: Truth,
    features: FeatureMap,
    rule: Rule,
) -> Evaluator:
    """Return the evaluator of values of actions on a finite chain; it is exact.

    pairs: the chain of pairs of state and action; rows: of these pairs
    truth: V at rows of states under the evaluated policy
    """
    count, value = len(rows), pairs.value()
    everything = torch.cat([rows, truth.observation]).double()

    def one(parameters: Parameters) -> dict[str, Tensor]:
        feature = features(parameters.body, everything)
        return measure(
            Measured(
                parameters,
                pairs.moments(feature[:count]),
                truth=TrueValue(feature[count:], truth.weighting, truth.value, truth.squared_error),
                action_truth=TrueValue(feature[:count], pairs.weighting, value),
                auxiliary=_auxiliary(rule, parameters),
            )
        )

    return at_home(in_groups(one, len(everything)), everything.device)


def sample_evaluator(
    held_out: Sample,
    truth: Truth | None,
    features: FeatureMap,
    rule: Rule,
    threads: int | None = None,
    observed: Callable[[Tensor], Tensor] | None = None,
) -> Evaluator:
    """Return the evaluator of a problem that is known by transitions alone.

    held_out: transitions that the learner does not see (`neural_tdc.metrics.samples.in_rows`), for
        A, b₀, C and the errors of transitions
    truth:    the value at some states; None leaves out the metrics that need it
    threads:  that share the runs of a population on the CPU
    observed: from the sample's observations, which are then row numbers [row, 1] of large ones, to
        these; they are looked up a few at a time, and there is no truth

    Features are computed in the precision of the observations, in which they are learned, and all
    that is computed from them in float64.
    """
    observations = held_out.observation
    states = len(observations)
    if observations.dtype == torch.uint8:
        # Pictures stay bytes until they are used.
        observed = partial(torch.Tensor.__getitem__, observations)
        observations = torch.arange(states, device=observations.device)[:, None]
    held_out = Sample(observations, *map(_double, held_out[1:]))
    rows = states - 1
    length = block_length(rows)

    def features_of(body: Body, seen: Tensor) -> Tensor:
        if observed is None:
            return features_in_double(features, body, seen)
        found = None
        for begin in range(0, len(seen), AT_ONCE):
            rows = slice(begin, begin + AT_ONCE)
            feature = features_in_double(features, body, observed(seen[rows, 0]))
            if found is None:
                found = feature.new_empty(len(seen), feature.shape[1])
            # Small results between large blocks would keep their memory apart.
            found[rows] = feature
        assert found is not None
        return found

    def held_out_part(
        parameters: Parameters, begin: int, end: int
    ) -> tuple[Moments, Tensor, Tensor]:
        part = rows_of(held_out, slice(begin, end))
        feature = features_of(parameters.body, observations[begin : end + 1])
        values = feature @ parameters.head
        errors = held_out_errors(part, feature[:-1], values[:-1], values[1:], length)
        return moments_between(part, feature[:-1], feature[1:]), errors.td_error, errors.updates

    def seen(parameters: Parameters) -> dict[str, Any]:
        # Whole blocks, so many that their features are no more than some million numbers.
        some = length * max(1, _FEATURES // (length * len(parameters.head)))
        starts = range(0, rows, some)
        parts = [held_out_part(parameters, begin, min(begin + some, rows)) for begin in starts]
        moments, td_errors, updates = zip(*parts)
        found: dict[str, Any] = {
            "moments": Moments(*(sum(leaves[1:], leaves[0]) for leaves in zip(*moments))),
            "held_out": (torch.cat(td_errors), torch.cat(updates)),
        }
        if truth is not None:
            drawn = features_in_double(features, parameters.body, truth.observation)
            found["drawn"] = drawn.view(len(truth.value), -1, drawn.shape[1]).mean(1)
        return found

    def one(parameters: Parameters, found: dict[str, Any]) -> dict[str, Tensor]:
        known = None
        if truth is not None:
            weighting, value = truth.weighting.double(), truth.value.double()
            known = TrueValue(found["drawn"], weighting, value, truth.squared_error)
        return measure(
            Measured(
                parameters,
                found["moments"],
                truth=known,
                held_out=HeldOut(held_out, *found["held_out"]),
                auxiliary=_auxiliary(rule, parameters),
            )
        )

    # What takes time is done by all threads. The many small operations on the moments are Python's
    # time more than arithmetic, and threads would wait for one another.
    look = on_threads(threads, in_groups(seen, states))

    def evaluator(parameters: Parameters) -> dict[str, Tensor]:
        values: dict[str, Tensor] = torch.vmap(one)(parameters, look(parameters))
        return values

    return at_home(in_parts(evaluator, states), observations.device)


def features_in_double(features: FeatureMap, body: Body, observation: Tensor) -> Tensor:
    """Return the features [n, d] of observations [n, …] in float64.

    They are computed in the precision of the observations, and in float64 for observations that
    are whole numbers, such as the bytes of pictures.
    """
    if not observation.is_floating_point():
        observation = observation.double()
    learned: Body = tree_map(lambda leaf: leaf.to(observation.dtype), body)
    return features(learned, observation).double()


def _double(leaf: Any) -> Any:
    return leaf.double() if isinstance(leaf, Tensor) else leaf


def at_home(evaluator: Evaluator, device: torch.device) -> Evaluator:
    """Return an evaluator that brings parameters to the device where its own data are.

    Many devices have next to no arithmetic in float64, and decompose many small matrices slowly:
    an evaluator whose data are on the CPU measures there what is learned elsewhere.
    """

    def brought(parameters: Parameters) -> dict[str, Tensor]:
        moved: Parameters = tree_map(lambda leaf: leaf.to(device), parameters)
        return evaluator(moved)

    return brought


def _auxiliary(rule: Rule, parameters: Parameters) -> AuxiliaryEstimate | None:
    found = rule.omega(parameters)
    return None if found is None else AuxiliaryEstimate(*found)
