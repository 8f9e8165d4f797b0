"""`evaluate`: transitions in, value function and measurements out."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.action_values.preparation import action_problem, held_out_rows, state_rows
from neural_tdc.action_values.rows import ActionRows, body_of_rows
from neural_tdc.baselines.method import Method
from neural_tdc.baselines.method_evaluation import asked_method, evaluate_method
from neural_tdc.devices import checked_device
from neural_tdc.evaluation_input import (
    asks_for_actions,
    check_numbers,
    check_step_sizes,
    checked_optimizers,
    checked_rule,
    checked_streams,
    learned_part,
)
from neural_tdc.learning.averaging import averaging
from neural_tdc.learning.experience import Experience, gather
from neural_tdc.learning.learner import divergence_limit, learn
from neural_tdc.learning.optimisers import PartOptimizers
from neural_tdc.learning.preparation import base_steps, prepare
from neural_tdc.learning.reward_scale import fixed_reward_scale, scale_of_returns
from neural_tdc.learning.sampling import Sampling, sampling_scheme
from neural_tdc.learning.schedules import measured_steps
from neural_tdc.learning.schedules import schedule as named_schedule
from neural_tdc.metrics.evaluators import sample_evaluator
from neural_tdc.metrics.samples import in_rows
from neural_tdc.networks.bodies import mlp
from neural_tdc.randomness import keys
from neural_tdc.rules.rule import Rule
from neural_tdc.types import FeatureMap, MakeBody, Parameters, Transition, mapped


class Evaluation(NamedTuple):
    """What `evaluate` returns.

    parameters:    of all runs, with a leading run axis; averaged where parts are averaged
    features:      `features(body, observation)`
    steps:         the numbers of updates after which was measured
    measurements:  {name: [measurement, run]}, NaN from where a run diverged
    diverged:      [run]
    rows, policy:  with values of actions, how rows are made and the policy; else None
    """

    parameters: Parameters
    features: FeatureMap
    steps: list[int]
    measurements: dict[str, Tensor]
    diverged: Tensor
    rows: ActionRows | None = None
    policy: Any = None

    def value(
        self,
        observation: Float[Tensor, "batch *observation"],
        run: int | None = None,
        action: Tensor | None = None,
    ) -> Float[Tensor, " batch"]:
        """Return V(observation) of one run, or the mean over the runs that did not diverge.

        action: [batch] where values of actions were learned, for q(observation, action)

        Raises ValueError for an action where values of states were learned.
        """
        parameters, rows = self.parameters, self.rows
        inputs = observation.to(parameters.head)[None]
        if rows is not None and action is not None:
            weights = rows.weights(action, inputs[0].flatten(1)[:, 0])
            inputs = rows.at(inputs[0], weights)[None]
        elif rows is not None:
            inputs = state_rows(rows, self.policy, inputs[0], inputs[0])
        elif action is not None:
            raise ValueError("values of states were learned, not of actions: give no action")

        def one(parameters: Parameters) -> Tensor:
            values = self.features(parameters.body, inputs.flatten(0, 1)) @ parameters.head
            return values.view(inputs.shape[:2]).mean(0)

        with torch.no_grad():
            values = torch.vmap(one)(parameters)
        return values[~self.diverged].mean(0) if run is None else values[run]


def evaluate(
    transitions: Transition,
    *,
    rule: str | Rule | Method = "tdc",
    body: MakeBody | None = mlp,
    steps: int = 10_000,
    runs: int = 1,
    body_step: float = 1e-3,
    head_step: float = 1e-2,
    auxiliary_step: float | None = None,
    sampling: str | Sampling = "markov",
    batch: int = 1,
    sequence_length: int = 8,
    optimizer: str | Sequence[str] | PartOptimizers = "sgd",
    max_grad_norm: float | None = None,
    schedule: str = "constant",
    average: str = "none",
    average_after: int = 0,
    reward_scale: str | float = "none",
    constraint: str = "none",
    held_out: float = 0.2,
    trace_decay: float = 0.0,
    values: str = "v",
    action: Tensor | None = None,
    policy: Any = None,
    measure_every: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    measure_on: str = "device",
    compiled: bool = False,
    progress: Callable[[int], Any] | None = None,
) -> Evaluation:
    """Evaluate a policy from nothing but tensors of transitions, in their order.

    transitions:   [time, …] one stream, or [stream, time, …], one stream a run in turn; pictures
                   in uint8 stay bytes until they are used
    rule:          a name of `RULES`, a composition `body+head`, or a rule of one's own; or a
                   method that learns from all transitions at once: a name of `METHODS`, or an
                   object with other settings. A method takes transitions, runs, held_out,
                   trace_decay, seed and progress, and is measured once
    body:          function of the observation's shape that makes the body; None if the
                   observations are the features, which are then given
    steps, batch:  updates, and transitions an update (segments for `sequences`)
    runs:          independent runs, from initial parameters of their own
    body_step, head_step, auxiliary_step: α, β, η; η = β if not given
    sampling:      `markov`, `iid`, `replay` or `sequences`, or a sampling scheme of one's own with
                   its own batch
    sequence_length: transitions in a segment of `sequences`
    optimizer:     `sgd`, `rmsprop` or `adam` for all parts, three of them for body, head and
                   auxiliary, or `PartOptimizers`, whose parts have their own settings. One that
                   moves nothing is refused: of a part that the rule does not learn by steps
    max_grad_norm: the largest Euclidean norm of a direction, of each part by itself; None: no limit
    schedule:      `constant`, `linear` (to 0 at the end), or as `schedules.exponents` reads it
    average:       `none`, or `head` or `all` parameters: their mean over the updates is measured
                   and gives the values; the first `average_after` updates, fewer than `steps`, are
                   left out
    reward_scale:  a number that rewards are divided by for learning, `none`, or `auto`: the
                   standard deviation of the returns. Values and errors are in the rewards' own unit
    held_out:      the last part of each stream, not learned from, on which errors are measured
    trace_decay:   λ: with `sequences` over each segment, for any body (see
                   `neural_tdc.rules.lambda_returns`); else by eligibility traces, for given
                   features and an ordered stream (see `neural_tdc.rules.traces`). `first` must
                   then mark every start of an episode
    values:        `v`, or `q` for values of actions (see `neural_tdc.action_values.rows`): no ratio
                   weighs an error, and only λ > 0 reads `ratio`
    action, policy: for `q`: the actions taken, shaped as reward, whole numbers from 0 or
                   floating-point numbers; and the evaluated policy, from observations
                   [n, *observation] to probabilities [n, actions] (others, and continuous
                   actions: `neural_tdc.action_values.policies`)
    measure_every: updates between two measurements; if not given some 50, denser at the beginning
    measure_on:    `device`, or `host` to measure errors on the CPU, in float64 as anywhere
    compiled:      learn by a compiled program; worth some 10 seconds from 10,000 steps on
    progress:      called with the number of updates done

    Raises ValueError in one line for what cannot be evaluated.

    >>> import torch
    >>> from neural_tdc import Transition, evaluate
    >>> state = torch.arange(1001) % 5
    >>> one_hot = torch.eye(5)[state]
    >>> constant = torch.ones(1000)
    >>> stream = Transition(one_hot[:-1], constant, 0.9 * constant, one_hot[1:], constant)
    >>> result = evaluate(stream, body=None, steps=3000, head_step=0.5)
    >>> bool((result.value(torch.eye(5)) - 10).abs().max() < 0.1)
    True
    """
    method = asked_method(rule, locals(), evaluate)
    streams = transitions
    if transitions.reward.dim() == 1:
        streams = mapped(transitions, lambda leaf: leaf[None])
    streams = checked_streams(streams, checked_device(device))
    actions = None
    if asks_for_actions(values, action, policy):
        taken = action.to(device) if action is not None else streams.reward
        taken = taken[None] if transitions.reward.dim() == 1 else taken
        actions = action_problem(streams, taken, policy, given=body is None, seed=seed)
        streams = actions.transitions
    if measure_on not in ("device", "host"):
        raise ValueError(f"measure_on {measure_on!r} is not one of device, host")
    check_numbers(
        steps=steps,
        runs=runs,
        batch=batch,
        sequence_length=sequence_length,
        measure_every=measure_every,
    )
    auxiliary = head_step if auxiliary_step is None else auxiliary_step
    check_step_sizes(body_step=body_step, head_step=head_step, auxiliary_step=auxiliary)
    scheme = sampling
    if isinstance(scheme, str):
        scheme = sampling_scheme(scheme, batch=batch, sequence_length=sequence_length)
    kept = learned_part(held_out, streams.reward.shape[1])
    learned = mapped(streams, lambda leaf: leaf[:, :kept])
    if method is not None:
        unseen = mapped(streams, lambda leaf: leaf[:, kept:].flatten(0, 1))
        return Evaluation(*evaluate_method(method, learned, unseen, runs, seed, progress))
    chosen = checked_rule(rule, trace_decay, sampling, scheme, of_actions=actions is not None)
    if actions is not None:
        body = body_of_rows(actions.rows, body)
    optimizers = checked_optimizers(optimizer, max_grad_norm, chosen, given_features=body is None)
    scale = fixed_reward_scale(str(reward_scale))
    stream_index = torch.arange(runs, device=device) % len(learned.reward)
    key = keys(seed, runs, "sampling").to(device)
    experience = Experience(learned, None, stream_index, key)
    if actions is not None:
        drawn, weights = actions.next_action, actions.weights
        experience = experience._replace(next_action=drawn, of_actions=True, weights=weights)
    once = experience._replace(stream_index=stream_index[:1], key=key[:1])
    begin = torch.arange(min(kept, 256), device=device)
    algorithm, state = prepare(
        chosen,
        body,
        gather(once, begin[None]).observation[0],
        runs=runs,
        seed=seed,
        optimizers=optimizers,
        constraint=constraint,
        averaging=averaging(average, average_after, steps),
    )
    place = "cpu" if measure_on == "host" else device
    unseen, observed = held_out_rows(streams, actions, kept, place)
    sizes = base_steps(algorithm.rule, (body_step, head_step, auxiliary), runs, learned.reward)
    after: list[int] = []
    history: list[dict[str, Tensor]] = []
    for measurement in learn(
        algorithm,
        state,
        experience,
        sizes,
        named_schedule(schedule, steps),
        scheme,
        sample_evaluator(
            in_rows(unseen), None, algorithm.features, algorithm.rule, observed=observed
        ),
        steps=steps,
        measured=measured_steps(steps, measure_every),
        limit=divergence_limit(state.parameters),
        compiled=compiled,
        reward_scale=scale_of_returns(learned) if scale is None else scale,
    ):
        after.append(measurement.step)
        history.append(measurement.values)
        if progress:
            progress(measurement.step)
    return Evaluation(
        measurement.parameters,
        algorithm.features,
        after,
        {name: torch.stack([values[name] for values in history]) for name in history[0]},
        measurement.diverged.to(device),
        None if actions is None else actions.rows,
        policy,
    )
