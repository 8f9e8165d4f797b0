"""A log made ready for the learner: its beginning to learn from, its end to measure by."""

from collections.abc import Callable

import torch
from torch import Tensor

from agents.task import EXAMPLES, Task, truncates
from agents.task_actions import logged_actions
from envs.control.standardisation import standardisation
from envs.logs.held_out import held_out_start
from envs.logs.logged_problem import LoggedProblem
from neural_tdc.action_values.preparation import numbered_rows
from neural_tdc.action_values.rows import ActionWeights, ratio_on_arrival
from neural_tdc.byte_rows import Units, byte_units, in_given_units
from neural_tdc.learning.experience import Experience, gather
from neural_tdc.metrics.evaluators import sample_evaluator
from neural_tdc.metrics.samples import in_rows
from neural_tdc.randomness import keys
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Evaluator, FeatureMap, Transition, mapped


def logged_task(
    problem: LoggedProblem,
    *,
    given: bool = False,
    runs: int,
    transitions: int = 0,
    fraction: float = 0.2,
    of_actions: bool = False,
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Task:
    """Make a log ready: one stream that all runs learn from, and its end as held-out transitions.

    given:       whether the observations are the features, which are then left as they are;
        otherwise they are standardised by means and deviations of the part to learn from
    transitions: how many are taken in order, over and over if need be; 0 where they are drawn
    fraction:    of the log that is held out at its end, cut where an episode starts if one does
        nearby
    of_actions:  whether values of actions are learned

    There is no truth: what is measured needs none, over the held-out part. Runs differ by their
    initial parameters and by what they draw. Raises ValueError in one line where the log is too
    short for two parts, and for given features that are no vectors.
    """
    shape = problem.shape
    if given and len(shape) != 1:
        raise ValueError(f"given features are vectors, not observations of shape {shape}")
    first = problem.transition.first
    assert first is not None
    begin = held_out_start(first[0], fraction)
    held = len(first[0]) - begin
    table, raw = problem.table, problem.plain()
    units = None if given else _units(problem, raw, begin)
    states = mapped(raw, lambda leaf: leaf.to(device, dtype))
    if units is not None:
        # In the precision of the file: a clock's small steps are lost in float32.
        states = states._replace(
            observation=in_given_units(raw.observation, *units).to(device, dtype),
            next_observation=in_given_units(raw.next_observation, *units).to(device, dtype),
        )
    actions = logged_actions(problem, given) if of_actions else None
    weights = drawn = None
    if actions is not None and problem.action is not None:
        # Of the part to learn from.
        early = mapped(states, lambda leaf: leaf[:, :begin])
        actions = actions.with_starts(early, raw.observation[:, :begin].float())
        after = raw.next_observation.float()
        weights, drawn = actions.weights(states.reward, problem.action, after, seed)
    if table is not None:
        # Pictures stay bytes until they are used: the stream has their row numbers.
        numbered = problem.transition
        whole = complete = states._replace(
            observation=numbered.observation.to(device),
            next_observation=numbered.next_observation.to(device),
        )
    else:
        whole = complete = states if weights is None else weights.complete(states)
        if drawn is not None:
            whole = complete._replace(next_observation=states.next_observation.flatten(2))
    learned = mapped(whole, lambda leaf: leaf[:, :begin])
    unseen = mapped(complete, lambda leaf: leaf[0, begin:])
    if of_actions:
        unseen = ratio_on_arrival(unseen)
    experience = Experience(
        learned,
        None if table is None else table.to(device),
        torch.zeros(runs, dtype=torch.int64, device=device),
        keys(seed, runs, "sampling").to(device),
        next_action=None if drawn is None else drawn[:, :begin],
        of_actions=of_actions,
        units=None if table is None or units is None else Units(*(u.to(device) for u in units)),
        weights=None if table is None else weights,
    )
    observed = None
    if table is not None:
        unseen, observed = _by_number(experience, unseen)
    measured, threads = in_rows(unseen), torch.get_num_threads()

    def evaluator(features: FeatureMap, rule: Rule) -> Evaluator:
        return sample_evaluator(measured, None, features, rule, threads, observed)

    # From everywhere, since the first rows may be a single episode.
    times = torch.arange(0, begin, max(1, begin // EXAMPLES), device=device)[:EXAMPLES]
    once = experience._replace(stream_index=times.new_zeros(1), key=experience.key[:1])
    cut_at_its_end = bool(learned.discount[0, -1] > 0)
    notes = [
        *problem.notes,
        f"{problem.source}: {begin:,} transitions to learn from, the last {held:,} held out to "
        "measure on",
    ]
    if transitions > begin:
        notes.append(
            f"{problem.source}: gone through {transitions / begin:.3g} times, in its order"
        )
    return Task(
        name=problem.name,
        experience=experience,
        example=gather(once, times[None]).observation[0],
        evaluator=evaluator,
        features_given=given,
        head=None,
        states=None,
        truncates=truncates(problem.transition) or (transitions > begin and cut_at_its_end),
        shift=None if units is None else units.shift,
        scale=None if units is None else units.scale,
        notes=tuple(notes),
        actions=actions,
    )


def _units(problem: LoggedProblem, raw: Transition, begin: int) -> Units:
    """Return mean and deviation of the observations to learn from, of bytes in float32."""
    if problem.table is None:
        return Units(*standardisation(raw.observation[0, :begin]))
    number = problem.transition.observation[0, :begin]
    return Units(*(unit.float() for unit in byte_units(problem.table, number)))


def _by_number(
    experience: Experience, unseen: Transition
) -> tuple[Transition, Callable[[Tensor], Tensor]]:
    """Return transitions with numbers [sample, 1] for observations, and the observations.

    unseen: the last ones of the log, with numbers of rows of the table
    """
    seen, after = unseen.observation, unseen.next_observation
    if experience.weights is None:
        numbered = unseen._replace(observation=seen[:, None], next_observation=after[:, None])
        return numbered, experience.observed
    kind, *weights = experience.weights
    number, count = torch.cat([seen, after]), len(seen)
    late = ActionWeights(kind, *(leaf[0, -count:] for leaf in weights))
    return numbered_rows(unseen, late, lambda place: experience.observed(number[place]))
