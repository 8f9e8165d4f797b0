"""The training loop of a supervised population, and the heads that answer in it."""

import warnings
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils._pytree import tree_map

from neural_tdc.learning.learner import diverged_runs, no_phase
from neural_tdc.learning.schedules import measured_steps
from neural_tdc.networks.mlp_population import CROSS_ENTROPY, NetworkObjective, features
from neural_tdc.stackelberg.best_responses import BestResponse, ridge_response, softmax_response
from neural_tdc.stackelberg.supervised import (
    Learning,
    Samples,
    SupervisedState,
    arm_parameters,
    supervised_updates,
)
from neural_tdc.types import Measurement, Parameters


def best_response(
    objective: NetworkObjective,
    parameters: Parameters,
    inputs: Float[Tensor, "sample input"],
    target: Tensor,
    tolerance: float | None = None,
) -> BestResponse:
    """Return θ*(W) of one network on some samples, in float64; the softmax starts at its head.

    target:    [sample], of numbers or of labels
    tolerance: of the softmax response, on the largest entry of the gradient; one that misses it is
               returned with its residual
    Raises ValueError where the ridge is 0 and the best response is not unique.
    """
    with torch.no_grad(), warnings.catch_warnings():
        # The residual is handed back; a warning at each of thousands of answers would hide it.
        warnings.simplefilter("ignore", RuntimeWarning)
        learned = features(parameters.body, inputs, objective.activation).double()
        if objective.loss is CROSS_ENTROPY:
            return softmax_response(
                learned,
                target,
                parameters.head.shape[-1],
                objective.ridge,
                start=parameters.head.double(),
                tolerance=tolerance,
                strict=False,
            )
        head = ridge_response(learned, target.double(), objective.ridge)
        slope = learned.mT @ (learned @ head - target) / len(target) + objective.ridge * head
        return BestResponse(head, float(slope.abs().max()), 0)


def answered(
    learning: Learning, samples: Samples, state: SupervisedState, diverged: Bool[Tensor, " seed"]
) -> tuple[SupervisedState, Float[Tensor, " seed"]]:
    """Replace the heads of the arm `limit` by their best responses; also return the residuals.

    samples: may be on another device than the state, and are answered there
    A diverged run keeps its head, with a residual of 0: there is nothing to answer.
    """
    learned = arm_parameters(learning, state, "limit")
    parameters = tree_map(lambda leaf: leaf.to(samples.inputs.device), learned)
    heads, residual = parameters.head.clone(), torch.zeros(len(diverged), dtype=torch.float64)
    for seed in (~diverged).nonzero()[:, 0].tolist():
        response = best_response(
            learning.objective,
            tree_map(lambda leaf, seed=seed: leaf[seed], parameters),
            *samples.of(seed, learning.responder.samples),
            learning.responder.tolerance,
        )
        heads[seed] = response.head
        residual[seed] = response.residual
    seeds, start = len(heads), learning.given.index("limit") * len(heads)
    head = state.given.parameters.head
    joined = torch.cat([head[:start], heads.to(head.device), head[start + seeds :]])
    moved = state.given.parameters._replace(head=joined)
    return state._replace(given=state.given._replace(parameters=moved)), residual


def learn_supervised(
    learning: Learning,
    samples: Samples,
    key: Int[Tensor, " seed"],
    state: SupervisedState,
    *,
    steps: int,
    measure_every: int,
    limit: Float[Tensor, " seed"],
    answered_on: Samples | None = None,
    start: int | None = None,
    diverged: Bool[Tensor, "arm seed"] | None = None,
    compiled: bool = False,
    on_phase: Callable[[str], object] = no_phase,
) -> Iterator[Measurement]:
    """Learn and yield a measurement before the first update, every `measure_every`, and at the end.

    key:   of each seed's batches, from `randomness.keys`
    limit: [seed] the magnitude of a parameter beyond which a run counts as diverged
    answered_on: the samples where best responses are computed, if on another device
    start, diverged: updates done and measured, and the runs lost by then, when a run is resumed
    on_phase: is called with what begins: `compile` or `learn`

    The arm `limit` answers before update 0 and every `responder.every` updates from there on. The
    value `response/residual`, [arm, seed], is the largest residual of a run's answers since the
    last measurement, 0 where none was given.
    """
    on_phase("compile")
    advance = supervised_updates(learning, samples, key, state, compiled=compiled)
    done = start or 0
    update = torch.tensor(done, device=key.device)
    shape = (len(learning.arms), len(limit))
    lost = torch.zeros(shape, dtype=torch.bool) if diverged is None else diverged.cpu()
    every = learning.responder.every if "limit" in learning.arms else steps
    answered_on = samples if answered_on is None else answered_on
    measured = -1 if start is None else start
    for target in measured_steps(steps, measure_every, first=0, after=measured):
        on_phase("learn")
        residual = torch.zeros(shape, dtype=torch.float64)
        # Not around the `yield`: the caller's own gradients are the caller's business.
        with torch.no_grad():
            while done < target:
                if "limit" in learning.arms and done % every == 0:
                    arm = learning.arms.index("limit")
                    state, missed = answered(learning, answered_on, state, lost[arm])
                    residual[arm] = torch.fmax(residual[arm], missed)
                count = min(target - done, every - done % every)
                state, update = advance(state, update, count)
                done += count
            now = [
                diverged_runs(arm_parameters(learning, state, arm), limit) for arm in learning.arms
            ]
            lost = lost | torch.stack(now).cpu()
        yield Measurement(done, {"response/residual": residual}, lost, state, state)
