"""A finite chain made ready for learning values of actions; all errors are exact."""

import torch

from agents.task import Task, stream_experience
from agents.task_actions import TaskActions, chain_pairs
from envs.finite.finite_mdp import FiniteMDP, action_chain, chain
from envs.finite.streams import simulate_actions
from neural_tdc.action_values.rows import ActionRows
from neural_tdc.metrics.evaluators import Truth, action_chain_evaluator
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Evaluator, FeatureMap


def action_chain_task(
    mdp: FiniteMDP,
    *,
    given: bool,
    runs: int,
    transitions: int,
    seed: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Task:
    """Make a finite chain ready for q, from the same streams as `chain_task`.

    The table of observations has the rows of all pairs of state and action, then those of all
    states under the evaluated policy. With given features every action has a head on them.
    """
    states, actions = mdp.target.shape
    seen = (mdp.features if given else mdp.observation).to(device)
    rows = ActionRows(tuple(seen.shape[1:]), actions, given=given)
    of_pairs, of_states = chain_pairs(rows, seen), rows.at(seen, mdp.target.to(seen))
    streams, taken = simulate_actions(mdp, runs, transitions, seed, device, dtype)
    learned = streams._replace(
        observation=streams.observation * actions + taken,
        next_observation=states * actions + streams.next_observation,
    )
    pairs, truth = action_chain(mdp).to(device), chain(mdp).to(device)
    of_truth = Truth(of_states, truth.weighting, truth.value(), 0.0)

    def evaluator(features: FeatureMap, rule: Rule) -> Evaluator:
        return action_chain_evaluator(pairs, of_pairs, of_truth, features, rule)

    visited = of_pairs[pairs.weighting > 0].to(dtype)
    head = mdp.initial_head if given else None
    table = torch.cat([of_pairs, of_states]).to(dtype)
    return Task(
        name=mdp.name,
        experience=stream_experience(learned, table, runs, seed, device, True),
        example=visited.repeat(-(-2 // len(visited)), 1),
        evaluator=evaluator,
        features_given=given,
        head=None if head is None else head.repeat(actions).to(device),
        states=states,
        truncates=False,
        shift=None,
        scale=None,
        notes=mdp.notes,
        truth=of_truth._replace(observation=of_states.to(dtype)),
        actions=TaskActions(rows, probability=mdp.target),
        table=seen.to(dtype),
    )
