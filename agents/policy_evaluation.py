"""From an environment and a policy to what the learner needs: streams, truth and an evaluator.

A `Task` is a prediction problem made ready on a device. What it holds depends on the seed and on
the numbers of runs and transitions alone, never on a rule or a step size, so that all rules and
step sizes of one seed learn from the same experience and are measured by the same truth.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from agents.task_actions import TaskActions, control_actions
from envs.control.branches import NoTruthError
from envs.control.collection import collected, held_out_recording
from envs.control.importance import ratio_note
from envs.control.problems import ControlProblem
from envs.control.standardisation import standardisation
from envs.control.truth import check_truth_memory, monte_carlo_truth
from envs.finite.finite_mdp import FiniteMDP, chain
from envs.finite.streams import simulate_streams
from envs.logs.logged_problem import LoggedProblem
from neural_tdc.action_values.rows import ratio_on_arrival
from neural_tdc.learning.experience import Experience
from neural_tdc.metrics.evaluators import Truth, chain_evaluator, sample_evaluator
from neural_tdc.metrics.samples import in_rows
from neural_tdc.randomness import keys
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Evaluator, FeatureMap, Transition

# Observations that rules may scale their own features by and that a body is tried on.
EXAMPLES = 256

OnTaskProgress = Callable[[str, int, int], None]


class Task(NamedTuple):
    """A prediction problem on a device.

    name:        the problem's name
    experience:  one stream a run
    example:     [sample, *observation] observations a learner may see beforehand
    evaluator:   from a feature map and a rule to the evaluator of a population
    features_given:  whether the observations are the features
    head:        [feature] θ₀ that the problem prescribes for its given features, else None
    states:      number of states of a finite chain, None elsewhere
    truncates:   whether episodes are cut by a time limit
    shift, scale: what observations had subtracted and were divided by, both of an observation's
        shape; None on a chain
    notes:       lines worth printing, such as the size of the truth's own error
    truth:       the value at some observations of the streams' kind; None where there is none, as
        with a log
    resampled:   what the runs but the first drew of one stream, in words such as "30 episodes"; ""
        for runs with streams as they are
    actions:     how the rows of values of actions are made, which then take the place of
        observations everywhere here; None for values of states
    table:       [state, *observation] what is seen of every state of a finite chain
    """

    name: str
    experience: Experience
    example: Tensor
    evaluator: Callable[[FeatureMap, Rule], Evaluator]
    features_given: bool
    head: Tensor | None
    states: int | None
    truncates: bool
    shift: Tensor | None
    scale: Tensor | None
    notes: tuple[str, ...]
    truth: Truth | None = None
    resampled: str = ""
    actions: TaskActions | None = None
    table: Tensor | None = None


def known_parts(
    problem: FiniteMDP | ControlProblem | LoggedProblem, *, states: int = 1
) -> set[str]:
    """Return what is known of a problem for measuring, in the words of `metric.NEEDS`.

    states: where the truth of a Gymnasium problem is estimated; 0 for no truth
    """
    if isinstance(problem, FiniteMDP):
        return {"truth"}
    if isinstance(problem, LoggedProblem) or states == 0:
        return {"held_out"}
    return {"truth", "held_out"}


def no_progress(what: str, done: int, total: int) -> None:
    """Ignore how far the making of a task is; see `OnTaskProgress`."""


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


def stream_experience(
    streams: Transition,
    table: Tensor | None,
    runs: int,
    seed: int,
    device: torch.device | str,
    of_actions: bool = False,
) -> Experience:
    """Return the experience of runs with one stream each.

    streams: leaves [stream, time, …]; table: [row, …] observations by number, None where the
    streams hold the observations themselves
    """
    stream_index = torch.arange(runs, device=device)
    key = keys(seed, runs, "sampling").to(device)
    return Experience(streams, table, stream_index, key, of_actions=of_actions)


def experience_on(experience: Experience, device: torch.device) -> Experience:
    """Return the experience on the device to learn on, where the task is made on another one."""
    moved: Experience = tree_map(
        lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, experience
    )
    return moved


def truncates(streams: Transition) -> bool:
    """Return whether an episode of the streams was cut: a start that no end stands before."""
    if streams.first is None:
        return False
    return bool(((streams.first[:, 1:] == 1) & (streams.discount[:, :-1] > 0)).any())
