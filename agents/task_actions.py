"""Values of actions in a prediction problem: rows of states and actions in place of observations.

See `neural_tdc.action_values.rows`. The evaluated policy sees raw observations, the body what the
task makes of them.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.control.actions import Actions, BoxActions, DiscreteActions, actions_of
from envs.control.policies import is_sampler, policy_name
from envs.control.problems import ControlProblem
from envs.logs.logged_problem import LoggedProblem
from neural_tdc.action_values.policies import action_probabilities
from neural_tdc.action_values.preparation import DRAWS, STATE_DRAWS
from neural_tdc.action_values.rows import ActionRows, ActionWeights
from neural_tdc.byte_rows import as_numbers, row_blocks
from neural_tdc.randomness import generator
from neural_tdc.types import Transition

# Continuous actions over which the value of each start is a mean: there are many starts.
START_DRAWS = 8
# Of more starts, so many are taken at even distances.
MOST_STARTS = 1_000


def start_places(transitions: Transition) -> tuple[Tensor, Tensor]:
    """Return stream and time of the starts of episodes, at most `MOST_STARTS`.

    transitions: [stream, time, …]
    """
    first = transitions.first
    begins = torch.zeros_like(transitions.reward) if first is None else first.clone()
    begins[:, 0] = 1
    stream, time = (begins > 0).nonzero(as_tuple=True)
    if len(stream) > MOST_STARTS:
        kept = torch.linspace(0, len(stream) - 1, MOST_STARTS, device=stream.device).long()
        stream, time = stream[kept], time[kept]
    return stream, time


class RowStreams(NamedTuple):
    """Transitions of rows.

    transitions: with continuous actions the next ones are observations alone, flat, to be completed
        by one of the draws
    next_action: [*batch, draw, action] drawn from π; None with discrete actions
    """

    transitions: Transition
    next_action: Tensor | None

    def completed(self) -> Transition:
        """Return the transitions with the first of the drawn next actions where they lack one."""
        if self.next_action is None:
            return self.transitions
        after = [self.transitions.next_observation, self.next_action[..., 0, :]]
        return self.transitions._replace(next_observation=torch.cat(after, -1))


class TaskActions(NamedTuple):
    """How the rows of a task are made.

    rows:        from observations and actions to rows
    kind:        the environment's actions, or the continuous ones of a log; None on a chain and
                 with discrete actions of a log, which are numbered from 0
    policy:      the evaluated policy, which takes raw observations in float32; None on a chain
    probability: [state, action] π on a finite chain, else None
    starts:      [start, draw, row] the rows of the states at `start_places`; None on a chain
    """

    rows: ActionRows
    kind: Actions | None = None
    policy: Any = None
    probability: Tensor | None = None
    starts: Tensor | None = None

    @property
    def lowest(self) -> int:
        """Return the number of the first action, as the environment counts them."""
        return self.kind.start if isinstance(self.kind, DiscreteActions) else 0

    def states(
        self, observation: Tensor, raw: Tensor, seed: int, draws: int = STATE_DRAWS
    ) -> Tensor:
        """Return the rows at which V(s) = Σ_a π(a|s)q(s, a), [n · draw, row].

        V is the mean over consecutive draws; one with discrete actions.

        observation, raw: [n, …] as the task has them, and as the policy takes them
        """
        if isinstance(self.kind, BoxActions):
            drawn = self._drawn(raw, draws, seed, "at states").to(observation)
            each = observation.repeat_interleave(draws, 0)
            return self.rows.at(each, drawn.flatten(0, 1))
        return self.rows.at(observation, self._probabilities(raw).to(observation))

    def state_rows(self, row: Tensor) -> Tensor:
        """Return the rows [n] of the states, from the rows [n] of a chain's pairs."""
        assert self.probability is not None
        return len(self.probability) * self.rows.size + row // self.rows.size

    def with_starts(self, transitions: Transition, raw: Tensor) -> "TaskActions":
        """Return the same with the rows of the states in which episodes start.

        transitions: [stream, time, …] as the task has them, of states
        raw:         [stream, time, …] observations as the policy takes them: a state that is
            standardised and turned back may be another one to a policy with a threshold
        """
        place = start_places(transitions)
        seen = as_numbers(raw[tuple(each.cpu() for each in place)])
        rows = self.states(as_numbers(transitions.observation[place]), seen, 0, START_DRAWS)
        return self._replace(starts=rows.unflatten(0, (len(place[0]), -1)))

    def streams(
        self, transitions: Transition, action: Tensor, raw_next: Tensor, seed: int
    ) -> RowStreams:
        """Return the transitions of rows.

        transitions: [*batch, …] as the task has them
        action:      [*batch] numbers as the environment counts them, or continuous actions
        raw_next:    [*batch, …] next observations as the policy takes them
        """
        reward, after = transitions.reward, transitions.next_observation
        weights, drawn = self.weights(reward, action, raw_next, seed)
        made = weights.complete(transitions)
        if drawn is not None:
            made = made._replace(next_observation=after.flatten(reward.dim()))
        return RowStreams(made, drawn)

    def weights(
        self, reward: Tensor, action: Tensor, raw_next: Tensor, seed: int
    ) -> tuple[ActionWeights, Tensor | None]:
        """Return what completes observations to rows, and the drawn next actions if continuous.

        reward: [*batch]; the others as in `streams`
        """
        flat = raw_next.flatten(0, reward.dim() - 1)
        if not isinstance(self.kind, BoxActions):
            following = self._probabilities(flat).view(*reward.shape, self.rows.size).to(reward)
            taken = self.rows.weights(action.to(reward.device) - self.lowest, reward)
            return ActionWeights(self.rows, taken, following), None
        drawn = self._drawn(flat, DRAWS, seed, "next").view(*reward.shape, DRAWS, -1).to(reward)
        taken = self.rows.weights(action.to(reward), reward)
        return ActionWeights(self.rows, taken, drawn[..., 0, :]), drawn

    def _probabilities(self, raw: Tensor) -> Tensor:
        try:
            return action_probabilities(self.policy, raw.float(), self.rows.size)
        except ValueError as error:
            name = policy_name(self.policy)
            raise ValueError(str(error).replace("policy", f"the policy {name}", 1)) from error

    def _drawn(self, raw: Tensor, draws: int, seed: int, purpose: str) -> Tensor:
        """Return actions of the policy within the bounds, [n, draw, numbers of an action]."""
        kind = self.kind
        assert isinstance(kind, BoxActions)
        source, found = generator(seed, "actions", purpose), []
        for rows in row_blocks(raw):
            block = as_numbers(raw[rows]).float()
            shape = (len(block), draws, *kind.numbers)
            level = torch.rand(shape, generator=source, dtype=torch.float64).numpy()
            decide = kind.decisions(self.policy, level, together=True)
            everybody, seen = np.arange(len(block)), block.numpy()
            each = [kind.executed(decide(draw, everybody, seen)) for draw in range(draws)]
            found.append(torch.from_numpy(np.stack(each, 1)).reshape(len(block), draws, -1))
        return torch.cat(found)


def control_actions(problem: ControlProblem, shape: tuple[int, ...]) -> TaskActions:
    """Return how rows of a Gymnasium problem are made; shape: of an observation."""
    environment = problem.make()
    try:
        kind = actions_of(problem.name, environment.action_space)
    finally:
        environment.close()
    discrete = isinstance(kind, DiscreteActions)
    size = kind.size if isinstance(kind, DiscreteActions) else int(np.prod(kind.shape))
    return TaskActions(ActionRows(shape, size, discrete), kind, problem.target)


def logged_actions(problem: LoggedProblem, given: bool) -> TaskActions:
    """Return how rows of a log are made; given: whether observations are the features.

    Raises ValueError in one line for a log without a policy to evaluate.
    """
    policy = problem.target
    if policy is None:
        raise ValueError(
            f"{problem.source}: values of actions need the policy to evaluate, whose next action "
            "is expected"
        )
    if problem.action is None:
        raise ValueError(f"{problem.source} has no array action, which values of actions need")
    shape = problem.shape
    if isinstance(problem.kind, BoxActions):
        if given:
            raise ValueError(
                f"{problem.source}: with continuous actions a body takes the action; given "
                "features have no place for it"
            )
        size = int(np.prod(problem.kind.shape))
        return TaskActions(ActionRows(shape, size, False), problem.kind, policy)
    known = int(problem.action.max()) + 1
    count = known if is_sampler(policy) else None
    probability = action_probabilities(
        policy, problem.plain(slice(1)).observation[0].float(), count
    )
    rows = ActionRows(shape, probability.shape[1], given=given)
    return TaskActions(rows, policy=policy)


def chain_pairs(rows: ActionRows, observation: Tensor) -> Tensor:
    """Return the rows of all pairs of state and action, pair s·A + a.

    observation: [state, …] what is seen of every state
    """
    weights = torch.eye(rows.size, dtype=observation.dtype, device=observation.device)
    return rows.at(observation.repeat_interleave(rows.size, 0), weights.repeat(len(observation), 1))
