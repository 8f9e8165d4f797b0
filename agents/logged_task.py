"""A log made ready for the learner: its beginning to learn from, its end to measure by."""

import torch
from torch import Tensor

from agents.policy_evaluation import EXAMPLES, Task, truncates
from agents.task_actions import logged_actions
from envs.control.standardisation import byte_units, standardisation
from envs.logs.held_out import held_out_start
from envs.logs.logged_problem import LoggedProblem
from neural_tdc.action_values.rows import ratio_on_arrival
from neural_tdc.learning.sampling import Experience
from neural_tdc.metrics.evaluators import sample_evaluator
from neural_tdc.metrics.samples import in_rows
from neural_tdc.randomness import keys
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Evaluator, FeatureMap, mapped


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
    # Pictures stay bytes until they are used.
    table = None if given or of_actions else problem.table
    stream = problem.plain() if table is None else problem.transition
    shift = scale = units = None
    if table is not None:
        shift, scale = byte_units(table, stream.observation[0, :begin])
        units = shift.to(device), scale.to(device)
    elif not given:
        shift, scale = standardisation(stream.observation[0, :begin])

    def standardised(observation: Tensor) -> Tensor:
        if table is not None:
            return observation.to(device)
        # In the precision of the file: a clock's small steps are lost in float32.
        if shift is not None and scale is not None:
            observation = (observation - shift) / scale
        return observation.to(device, dtype)

    whole = mapped(stream, lambda leaf: leaf.to(device, dtype))._replace(
        observation=standardised(stream.observation),
        next_observation=standardised(stream.next_observation),
    )
    actions = logged_actions(problem, given) if of_actions else None
    drawn, complete = None, whole
    if actions is not None and problem.action is not None:
        actions = actions.with_starts(whole, stream.observation.float())
        after = stream.next_observation.float()
        rows = actions.streams(whole, problem.action, after, seed)
        whole, complete = rows.transitions, rows.completed()
        drawn = None if rows.next_action is None else rows.next_action[:, :begin]
    learned = mapped(whole, lambda leaf: leaf[:, :begin])
    unseen = mapped(complete, lambda leaf: leaf[0, begin:])
    if of_actions:
        unseen = ratio_on_arrival(unseen)

    experience = Experience(
        learned,
        None if table is None else table.to(device),
        torch.zeros(runs, dtype=torch.int64, device=device),
        keys(seed, runs, "sampling").to(device),
        next_action=drawn,
        of_actions=of_actions,
        units=units,
    )
    if table is not None:
        unseen = unseen._replace(
            observation=unseen.observation[:, None],
            next_observation=unseen.next_observation[:, None],
        )
    measured, threads = in_rows(unseen), torch.get_num_threads()
    observed = None if table is None else experience.observed

    def evaluator(features: FeatureMap, rule: Rule) -> Evaluator:
        return sample_evaluator(measured, None, features, rule, threads, observed)

    # From everywhere, since the first rows may be a single episode.
    example = learned.observation[0, :: max(1, begin // EXAMPLES)][:EXAMPLES]
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
        example=example if table is None else experience.observed(example),
        evaluator=evaluator,
        features_given=given,
        head=None,
        states=None,
        truncates=truncates(stream) or (transitions > begin and cut_at_its_end),
        shift=shift,
        scale=scale,
        notes=tuple(notes),
        actions=actions,
    )
