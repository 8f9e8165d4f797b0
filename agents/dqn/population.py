"""Many runs of deep Q-learning as one program: their networks stacked, everything else their own.

Every run has its environment, replay, exploration, initial network and target, and takes the steps
and updates that `agents.dqn.training.Training` would take with one environment, in the same order
and with the same random numbers; only the rounding of batched products differs. All runs have done
the same number of agent steps: where an episode has ended, the reset and the first step of the next
one belong to one step of the population. All runs learn on the device of the replay, which is
waited for where the networks act: the environments need to know.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.dqn.batch import Batch
from agents.dqn.members import DQNMember, block_runs, learning_blocks, population_order
from agents.dqn.q_network import QNetwork
from agents.dqn.stacked_learner import StackedLearner
from agents.dqn.stacked_networks import StackedNetwork
from agents.dqn.stacked_replay import StackedReplay
from agents.dqn.training import TrainingSchedule
from envs.games.discrete_control import GymnasiumEnvironments
from neural_tdc.randomness import generator

# To copy a network takes some two times as long as to ask it.
FEW = 4


class PopulationProgress(NamedTuple):
    """What has happened since the last report.

    returns, lengths: of the games that ended, a list a run
    loss, value:      [update, run] of each update, on the device
    """

    step: int
    updates: int
    returns: list[list[float]]
    lengths: list[list[int]]
    loss: Tensor
    value: Tensor


class DQNPopulation:
    """Runs of deep Q-learning that learn together; `advance` continues, `state` and `load` save.

    members:       the runs, in the order of `population_order`
    make_network:  from a seed to the initial network
    environments:  one a run
    replay:        on the device to learn on
    optimizer, eps, max_grad_norm:  as `make_optimizer` and `Learner` take them

    Raises ValueError where the members are in another order, or the networks are not supported.
    """

    def __init__(
        self,
        members: Sequence[DQNMember],
        make_network: Callable[[int], QNetwork],
        environments: GymnasiumEnvironments,
        replay: StackedReplay,
        schedule: TrainingSchedule,
        optimizer: str,
        *,
        eps: float | None = None,
        max_grad_norm: float | None = None,
    ) -> None:
        if population_order(members) != list(range(len(members))):
            raise ValueError("the members of a population must be in its order")
        self.members, self.environments = list(members), environments
        self.replay, self.schedule = replay, schedule
        self.step = self.updates = 0
        self.parts: list[tuple[slice, StackedLearner]] = []
        size = sum(leaf.nbytes for leaf in make_network(members[0].seed).parameters())
        most = block_runs(size) if replay.device.type == "cpu" else len(members)
        for runs in learning_blocks(members, most):
            own = members[runs]
            learner = StackedLearner(
                [make_network(member.seed).to(replay.device) for member in own],
                own[0].objective,
                [member.rates for member in own],
                optimizer,
                eps,
                max_grad_norm,
            )
            self.parts.append((runs, learner))
        count = len(members)
        self._acting = [generator(member.seed, "acting") for member in members]
        self._drawing = [generator(member.seed, "replay") for member in members]
        self._chance = torch.zeros(count, 1)
        self._drawn = torch.zeros(count, 1, dtype=torch.int64)
        self._all = np.arange(count)
        self._running, self._length = np.zeros(count), np.zeros(count, dtype=np.int64)

    @property
    def networks(self) -> list[tuple[slice, StackedNetwork]]:
        """Return the networks that learn, with the runs that they belong to."""
        return [(runs, learner.network) for runs, learner in self.parts]

    def begin(self) -> None:
        """Begin all games."""
        sources = [(member.seed, 0) for member in self.members]
        self.replay.start(self.environments.reset_each(sources))

    def advance(self, until: int) -> PopulationProgress:
        """Continue until every run has done `until` agent steps, and report."""
        returns: list[list[float]] = [[] for _ in self.members]
        lengths: list[list[int]] = [[] for _ in self.members]
        seen: list[tuple[Tensor, Tensor]] = []
        while self.step < until:
            self._step(returns, lengths, seen)
        loss, value = (torch.stack(each) for each in zip(*seen)) if seen else 2 * [torch.empty(0)]
        return PopulationProgress(self.step, self.updates, returns, lengths, loss, value)

    def _step(
        self,
        returns: list[list[float]],
        lengths: list[list[int]],
        seen: list[tuple[Tensor, Tensor]],
    ) -> None:
        games, epsilon = self.environments, self.schedule.epsilon(self.step)
        action = self._actions(epsilon, self._all)
        seen += self._learn()
        ended = games.ended
        if len(ended):
            # A single run resets in a step of its own, in which its action is drawn and ignored.
            self.replay.restart(ended, games.receive_some(ended).frame)
            for run in ended.tolist():
                returns[run].append(float(self._running[run]))
                lengths[run].append(int(self._length[run]))
            self._running[ended] = self._length[ended] = 0
            action[ended] = self._actions(epsilon, ended)
        games.send(action)
        taken = games.receive_some(self._all)
        self.replay.append(
            self._all, action, taken.reward, taken.terminated, taken.truncated, taken.frame
        )
        self._running += taken.reward
        self._length += 1
        self.step += 1

    def _actions(self, epsilon: float, which: np.ndarray) -> np.ndarray:
        """Return the ε-greedy actions of some runs; only these draw."""
        count, actions = len(which), self.environments.actions
        chance, drawn = self._chance[:count], self._drawn[:count]
        sources = [self._acting[run] for run in which.tolist()]
        for one, other, source in zip(chance.unbind(), drawn.unbind(), sources):
            # The numbers of `torch.rand` and `torch.randint`, in a third of their time.
            one.uniform_(generator=source)
            other.random_(0, actions, generator=source)
        explore, action = (chance < epsilon).numpy()[:, 0], drawn.numpy()[:, 0].copy()
        if explore.all():
            return action
        return np.where(explore, action, self._greedy(which))

    def _greedy(self, which: np.ndarray) -> np.ndarray:
        """Return the best actions of some runs; where they are few, no other network is asked."""
        observation, found = self.replay.latest(), []
        few = len(which) * FEW <= len(self.members) and observation.device.type == "cpu"
        for runs, network in self.networks:
            own = which[(which >= runs.start) & (which < runs.stop)] - runs.start
            if few and len(own):
                place = torch.from_numpy(own)
                found.append(network.of_runs(place).greedy(observation[runs][place]))
            elif not few:
                found.append(network.greedy(observation[runs]))
        best = torch.cat(found)[:, 0].cpu().numpy()
        return best if few else best[which]

    def _learn(self) -> list[tuple[Tensor, Tensor]]:
        """Take as many updates as the steps that are done ask for; return loss and mean value."""
        schedule, found = self.schedule, []
        while self.updates < schedule.updates_due(self.step):
            batch = self.replay.sample(schedule.batch, self._drawing)
            for _, learner in self.parts:
                learner.set_rates(schedule.rate(self.step))
            each = [learner.update(_of_runs(batch, runs)) for runs, learner in self.parts]
            loss, value = (torch.cat(leaves) for leaves in zip(*each))
            found.append((loss, value))
            self.updates += 1
            if self.updates % schedule.copy_every == 0:
                for _, learner in self.parts:
                    learner.sync_target()
        return found

    def state(self) -> dict[str, Any] | None:
        """Return all that the rest depends on; None where the environments cannot be stored."""
        environments = self.environments.state()
        if environments is None:
            return None
        return {
            "step": self.step,
            "updates": self.updates,
            "learners": [learner.state() for _, learner in self.parts],
            "acting": torch.stack([source.get_state() for source in self._acting]),
            "drawing": torch.stack([source.get_state() for source in self._drawing]),
            "replay": self.replay.state(),
            "environments": environments,
            "running": torch.from_numpy(self._running.copy()),
            "length": torch.from_numpy(self._length.copy()),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a state, to the bit; ValueError where it is of another population."""
        self.replay.load(state["replay"])
        for (_, learner), saved in zip(self.parts, state["learners"], strict=True):
            learner.load(saved)
        self.step, self.updates = state["step"], state["updates"]
        for sources, saved in ((self._acting, "acting"), (self._drawing, "drawing")):
            for source, each in zip(sources, state[saved]):
                # A generator reads the storage of a tensor from its start: no view.
                source.set_state(each.cpu().clone())
        self.environments.load(state["environments"])
        self._running[:] = state["running"].cpu().numpy()
        self._length[:] = state["length"].cpu().numpy()


def _of_runs(batch: Batch, runs: slice) -> Batch:
    leaves: list[Any] = [None if leaf is None else leaf[runs] for leaf in batch]
    return Batch(*leaves)
