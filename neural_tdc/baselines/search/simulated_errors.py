"""How far LSTD(λ) candidates are from the values where a given value function U is the true one.

    r*_t = U(s_t) − γ_t U(s'_t) + ξ_t δ_t,  ξ_t = ±1 with probability ½

are rewards under which U satisfies the Bellman equation, at the states and ratios of the data and
with TD errors as large as theirs: the wild bootstrap (Wu 1986, "Jackknife, bootstrap and other
resampling methods in regression analysis"; its use for LSTD(λ) is ours). The heads are linear in
the rewards, so that every candidate is solved anew at the cost of a back-substitution, and its
distance to U is known without a return. The distance holds the bias of the ridge, of λ and of the
features, and what the noise of the data does to a head.

Z, the traces of a stream, need not be computed: Σ z_t r*_t = Σ x_t (r*)^λ_t, see `lambda_returns`.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.baselines.candidates import CandidateGroup, Folds
from neural_tdc.baselines.feature_blocks import Block, block_features
from neural_tdc.baselines.lambda_returns import at_both_states, lambda_errors
from neural_tdc.baselines.least_squares import heads_for_vectors
from neural_tdc.baselines.log_preparation import joined
from neural_tdc.byte_rows import row_blocks
from neural_tdc.randomness import generator

# Draws of the signs, and states at which values are compared.
_DRAWS, _STATES = 6, 600


def simulated_errors(
    groups: Sequence[CandidateGroup],
    folds: Folds,
    true_value: Callable[[Tensor], Tensor],
    td_error: Float[Tensor, " time"],
    seed: int,
) -> Float[Tensor, " candidate"]:
    """Return the mean squared distance of every candidate to the value function taken for true.

    true_value: of observations [n, input] in the units of the parts
    td_error:   of held-out values at all transitions, without the ratio

    Infinite for a candidate whose head is not solved by LSTD(λ), or is not finite.
    """
    whole = joined(folds.parts)
    source = generator(seed, "simulated errors")
    value, next_value = at_both_states(true_value, whole)
    sign = torch.randint(0, 2, (len(value), _DRAWS), generator=source).to(value) * 2 - 1
    reward = (value - whole.discount * next_value)[:, None] + sign * td_error[:, None]
    rewards = reward.split([len(part.reward) for part in folds.parts])
    rows = torch.randperm(len(value), generator=source)[:_STATES].to(value.device)
    state, wanted = whole.observation[rows], value[rows, None]
    sums: dict[tuple[float, float], list[Tensor]] = {}
    errors = []
    for group in groups:
        if not group.solved:
            errors.append(value.new_full((len(group.settings),), torch.inf))
            continue
        for decay, limit in group.solved[folds.kept[0]].kinds:
            if (decay, limit) not in sums:
                sums[decay, limit] = [
                    lambda_errors(each, part, decay, trace_limit=limit)
                    for each, part in zip(rewards, folds.parts)
                ]
        found = value.new_zeros(())
        # Folds that share their features share the sums over a part.
        known: dict[tuple[int, int], Tensor] = {}
        for fold in folds.kept:
            solved, blocks = group.solved[fold], group.blocks[fold]
            vectors = value.new_zeros(*solved.statistics.vector.shape, _DRAWS)
            for part in folds.learned[fold]:
                place = (id(blocks), part)
                if place not in known:
                    of_kinds = [sums[kind][part] for kind in solved.kinds]
                    known[place] = _vectors(blocks, folds.parts[part].observation, of_kinds)
                vectors += known[place]
            heads = heads_for_vectors(solved.statistics, vectors, solved.ridges).flatten(0, 1)
            found = found + block_features(blocks, state) @ heads / len(folds.kept)
        distance = (found - wanted).square().mean((1, 2))
        errors.append(torch.where(distance.isfinite(), distance, torch.inf))
    return torch.cat(errors)


def _vectors(
    blocks: Sequence[Block], observation: Tensor, errors: Sequence[Float[Tensor, "time draw"]]
) -> Float[Tensor, "kind feature draw"]:
    """Return Σ x_t (r*)^λ_t over a part of the data, for each of several λ."""
    found = [each.new_zeros(()) for each in errors]
    for some in row_blocks(observation):
        feature = block_features(blocks, observation[some])
        found = [total + feature.T @ each[some] for total, each in zip(found, errors)]
    return torch.stack(found)
