"""From a chain or an environment and its policy to a task: streams, truth and an evaluator."""

from collections.abc import Callable

import torch
from torch import Tensor

from agents.task import EXAMPLES, OnTaskProgress, Task, no_progress, stream_experience, truncates
from agents.task_actions import control_actions
from envs.control.branches import NoTruthError
from envs.control.collection import collected, held_out_recording
from envs.control.importance import ratio_note
from envs.control.problems import ControlProblem
from envs.control.standardisation import standardisation
from envs.control.truth import check_truth_memory, monte_carlo_truth
from envs.finite.finite_mdp import FiniteMDP, chain
from envs.finite.streams import simulate_streams
from neural_tdc.action_values.rows import ratio_on_arrival
from neural_tdc.metrics.evaluators import Truth, chain_evaluator, sample_evaluator
from neural_tdc.metrics.samples import in_rows
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Evaluator, FeatureMap


def chain_task(
    mdp: FiniteMDP,
    *,
    given: bool,
    runs: int,
    transitions: int,
    seed: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Task:
    """Make a finite chain ready, with its given features or with its observations for a body.

    transitions: length of each run's stream. All errors are exact.
    """
    streams = simulate_streams(mdp, runs, transitions, seed, device, dtype)
    table = (mdp.features if given else mdp.observation).to(device)
    truth = chain(mdp).to(device)

    def evaluator(features: FeatureMap, rule: Rule) -> Evaluator:
        return chain_evaluator(truth, table, features, rule)

    visited = table[truth.weighting > 0].to(dtype)
    repeats = -(-2 // len(visited))
    return Task(
        name=mdp.name,
        experience=stream_experience(streams, table.to(dtype), runs, seed, device),
        example=visited.repeat(repeats, *([1] * (visited.dim() - 1))),
        evaluator=evaluator,
        features_given=given,
        head=mdp.initial_head.to(device) if given and mdp.initial_head is not None else None,
        states=len(table),
        truncates=False,
        shift=None,
        scale=None,
        notes=mdp.notes,
        truth=Truth(table.to(dtype), truth.weighting, truth.value(), 0.0),
        table=table.to(dtype),
    )


def control_task(
    problem: ControlProblem,
    *,
    runs: int,
    transitions: int,
    seed: int,
    states: int = 200,
    rollouts: int = 8,
    held_out_size: int = 5_000,
    of_actions: bool = False,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    on_progress: OnTaskProgress = no_progress,
    meanwhile: Callable[[], object] | None = None,
) -> Task:
    """Make a Gymnasium problem ready: streams, Monte Carlo truth and held-out transitions.

    transitions:  length of each run's stream
    states, rollouts: where the truth is estimated, and by how many returns at each; 0 states
        for no truth
    held_out_size: transitions of a separate stream, from which A, b₀ and C are estimated
    of_actions:    whether values of actions are learned
    on_progress:       is called with (what is being done, how much of it is done, of how much)
    meanwhile:     called once while other processes collect the streams, if they do; for imports

    Observations are standardised by the separate stream's means and deviations, once, for every
    run alike. An environment from which no true values can be had is measured as a log is, on the
    separate stream; a note says why.
    """
    # Before any experience is collected.
    check_truth_memory(problem.name, states, rollouts)

    def reporting(what: str, total: int) -> Callable[[int], None]:
        on_progress(what, 0, total)
        return lambda done: on_progress(what, done, total)

    test, test_action = held_out_recording(
        problem, held_out_size, seed, reporting("held-out transitions", held_out_size)
    )
    shift, scale = standardisation(test.observation)

    def standardised(observation: Tensor) -> Tensor:
        return ((observation - shift) / scale).to(device, dtype)

    streams, action = collected(
        problem,
        runs,
        transitions,
        seed,
        reporting("experience", transitions),
        meanwhile=meanwhile,
    )
    truth, note = _estimated_truth(problem, states, rollouts, seed, reporting("truth", states))
    raw = None if truth is None else truth.observation
    if truth is not None:
        truth = truth._replace(
            observation=standardised(truth.observation),
            weighting=truth.weighting.to(device),
            value=truth.value.to(device),
        )
    learned, held = (
        part._replace(
            observation=standardised(part.observation),
            next_observation=standardised(part.next_observation),
            reward=part.reward.to(device, dtype),
            discount=part.discount.to(device, dtype),
            ratio=part.ratio.to(device, dtype),
            first=None if part.first is None else part.first.to(device, dtype),
        )
        for part in (streams, test)
    )
    actions, drawn = None, None
    if of_actions:
        actions = control_actions(problem, tuple(shift.shape))
        actions = actions.with_starts(learned, streams.observation)
        learned, drawn = actions.streams(learned, action, streams.next_observation, seed)
        tested = actions.streams(held, test_action, test.next_observation, seed + 1)
        held = ratio_on_arrival(tested.completed())
        if truth is not None and raw is not None:
            truth = truth._replace(observation=actions.states(truth.observation, raw, seed))

    measured, threads = in_rows(held), torch.get_num_threads()

    def evaluator(features: FeatureMap, rule: Rule) -> Evaluator:
        return sample_evaluator(measured, truth, features, rule, threads)

    notes = [*problem.notes, note]
    # No ratio weighs an error of values of actions.
    if problem.target is not problem.behaviour and not of_actions:
        notes.append(ratio_note(problem.name, streams.ratio.numpy(), problem.ratio_limit))
    return Task(
        name=problem.name,
        experience=stream_experience(learned, None, runs, seed, device, of_actions)._replace(
            next_action=drawn
        ),
        example=held.observation[:EXAMPLES],
        evaluator=evaluator,
        features_given=False,
        head=None,
        states=None,
        truncates=truncates(streams),
        shift=shift,
        scale=scale,
        notes=tuple(notes),
        truth=truth,
        actions=actions,
    )


def _estimated_truth(
    problem: ControlProblem,
    states: int,
    rollouts: int,
    seed: int,
    on_progress: Callable[[int], None],
) -> tuple[Truth | None, str]:
    """Return the truth at raw observations, where one can be had, and a line about it."""
    without = "what needs no truth is measured, on held-out transitions"
    if states == 0:
        return None, f"without a truth of {problem.name}: {without}"
    try:
        estimate = monte_carlo_truth(problem, states, rollouts, seed, progress=on_progress)
    except NoTruthError as error:
        return None, f"{error}; {without}"
    squared_error = float(estimate.standard_error.double().square().mean())
    value = estimate.value.double()
    weighting = torch.full((states,), 1 / states, dtype=torch.float64)
    return Truth(estimate.observation, weighting, value, squared_error), (
        f"truth of {problem.name}: {states} states, {rollouts} rollouts each, values "
        f"{float(value.mean()):.4g} ± {float(value.std(unbiased=False)):.2g} over states, root "
        f"mean square standard error {squared_error**0.5:.2g} (its square is subtracted from "
        "squared errors)"
    )
