"""Training of deep Q-learning: act, learn while the emulators work, keep the scores.

A step begins with the choice of actions by the present network; while the environments take it the
network learns from what the replay holds so far; then the step is stored. The order of Mnih et al.
2015 differs in this alone: there the newest transition is stored before the update and may be drawn
in it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.dqn.batch import Batch
from agents.dqn.evaluation import Scores, epsilon_greedy
from agents.dqn.learner import Learner, exploration
from agents.dqn.replay import Replay
from envs.games.stepping import Environments, GameStep
from neural_tdc.randomness import generator

# Draws a row of the replay between two copies into the target, from which on the target's values
# are target_cache_rows: at a quarter some tenth of them is found.
WORTH_CACHING = 0.25


class TrainingSchedule(NamedTuple):
    """How learning goes along with acting. All counts are agent steps: actions, over all games.

    batch:           transitions an update
    update_every:    agent steps per update, for any number of environments
    target_period:   agent steps between two copies of the network into its target
    learning_starts: agent steps before the first update
    epsilon_first, epsilon_last, epsilon_steps: ε falls linearly from the first to the last value
    final_lr_factor: factor of both learning rates at the last step, which they fall to linearly
    steps:           agent steps over which the learning rates fall
    """

    batch: int = 32
    update_every: int = 4
    target_period: int = 10_000
    learning_starts: int = 50_000
    epsilon_first: float = 1.0
    epsilon_last: float = 0.1
    epsilon_steps: int = 250_000
    final_lr_factor: float = 1.0
    steps: int = 1_000_000

    def epsilon(self, step: int) -> float:
        """Return ε at an agent step."""
        return exploration(step, self.epsilon_first, self.epsilon_last, self.epsilon_steps)

    def updates_due(self, step: int) -> int:
        """Return how many updates are to be taken by an agent step, from the first on."""
        return max(0, step - self.learning_starts) // self.update_every

    @property
    def copy_every(self) -> int:
        """Return the updates between two copies of the network into its target."""
        return max(1, self.target_period // self.update_every)

    def target_cache_rows(self, rows: int, device: torch.device) -> int:
        """Return of how many rows of a replay the target's values are kept: of all, or of none.

        All on the CPU, where enough of them are drawn again before the next copy. On another device
        none: the part of a batch that is not known yet has another size each time, which a CUDA
        graph cannot have.
        """
        drawn = self.batch * self.target_period / self.update_every
        return rows if device.type == "cpu" and drawn >= WORTH_CACHING * rows else 0

    def rate(self, step: int) -> float:
        """Return the factor of both learning rates at an agent step."""
        return exploration(step, 1.0, self.final_lr_factor, self.steps)


class TrainingProgress(NamedTuple):
    """What has happened since the last report.

    step, updates:    done in all
    returns, lengths: of the games that came to their end, raw and in agent steps
    loss, value:      [update] the loss of each update and the mean of Q(s, a) in its batch
    """

    step: int
    updates: int
    returns: list[float]
    lengths: list[int]
    loss: Tensor
    value: Tensor


class Training:
    """A learner in its environments: `advance` continues it, `state` and `load` store it."""

    def __init__(
        self,
        learner: Learner,
        environments: Environments,
        replay: Replay,
        schedule: TrainingSchedule,
        seed: int,
    ) -> None:
        self.learner, self.environments, self.replay = learner, environments, replay
        self.schedule, self.seed = schedule, seed
        self.step = self.updates = 0
        self.last_batch: Batch | None = None
        self._acting = generator(seed, "acting")
        self._drawing = generator(seed, "replay")
        self._scores = Scores(environments.count)
        self._losses: list[Tensor] = []
        self._values: list[Tensor] = []

    def begin(self) -> None:
        """Begin all games."""
        self.replay.start(self.environments.reset(self.seed))

    def advance(self, until: int) -> TrainingProgress:
        """Continue until at least `until` agent steps are done, and report.

        The device is waited for where an action is taken from the network, and nowhere else.
        """
        returns: list[float] = []
        lengths: list[int] = []
        self._losses, self._values = [], []
        while self.step < until:
            taken = self._step(self.schedule.epsilon(self.step), self._learn)
            self.step += int((~taken.reset).sum())
            ended = self._scores.add(taken)
            returns += ended[0]
            lengths += ended[1]
        loss, value = (_stacked(each) for each in (self._losses, self._values))
        return TrainingProgress(self.step, self.updates, returns, lengths, loss, value)

    def _step(self, epsilon: float, meanwhile: Callable[[], None]) -> GameStep:
        """Take one step in every environment, do something meanwhile, and store what came of it."""
        action = self._actions(epsilon)
        self.environments.send(action)
        meanwhile()
        taken = self.environments.receive()
        self.replay.append(
            action, taken.reward, taken.terminated, taken.truncated, taken.reset, taken.frame
        )
        return taken

    def _actions(self, epsilon: float) -> np.ndarray:
        return epsilon_greedy(
            self.learner, self.replay.latest, self.environments, epsilon, self._acting
        )

    def _learn(self) -> None:
        """Take as many updates as the steps that are done ask for."""
        schedule = self.schedule
        while self.updates < schedule.updates_due(self.step):
            self.learner.set_rates(schedule.rate(self.step))
            self.last_batch = self.replay.sample(schedule.batch, self._drawing)
            loss, value = self.learner.update(self.last_batch)
            self._losses.append(loss)
            self._values.append(value)
            self.updates += 1
            if self.updates % schedule.copy_every == 0:
                self.learner.sync_target()

    def state(self, with_replay: bool) -> dict[str, Any]:
        """Return all that the rest of the training depends on, the replay if it is asked for.

        Without the replay, or where the environments have no state to store, the games begin anew
        when it is loaded.
        """
        environments = self.environments.state() if with_replay else None
        known = self.learner.target_values
        return {
            "step": self.step,
            "updates": self.updates,
            "learner": self.learner.state(),
            "acting": self._acting.get_state(),
            "drawing": self._drawing.get_state(),
            "replay": self.replay.state() if with_replay else None,
            "target_values": known.state() if with_replay and known is not None else None,
            "environments": environments,
            "running": torch.from_numpy(self._scores.running.copy()),
            "length": torch.from_numpy(self._scores.length.copy()),
        }

    def load(self, state: dict[str, Any]) -> list[str]:
        """Continue from a state; return a line for everything that could not be restored."""
        notes: list[str] = []
        self.step, self.updates = state["step"], state["updates"]
        self.learner.load(state["learner"])
        self._acting.set_state(state["acting"].cpu())
        self._drawing.set_state(state["drawing"].cpu())
        if state["replay"] is not None:
            self.replay.load(state["replay"])
        if self.learner.target_values is not None and state.get("target_values") is not None:
            self.learner.target_values.load(state["target_values"])
        if state["environments"] is not None:
            self.environments.load(state["environments"])
            self._scores.running = state["running"].cpu().numpy().copy()
            self._scores.length = state["length"].cpu().numpy().copy()
            return notes
        notes.append("the games that were running begin anew: their state was not stored")
        fresh = int(torch.randint(2**31, (), generator=generator(self.seed, "again", self.step)))
        self.replay.start(self.environments.reset(fresh))
        if state["replay"] is None and self.step:
            wanted = max(self.schedule.learning_starts, self.schedule.batch)
            wanted = min(self.step, wanted, self.replay.rows // 2)
            notes.append(
                f"the replay was not stored: {wanted:,} steps refill it before learning continues"
            )
            while len(self.replay) < wanted:
                self._step(self.schedule.epsilon(self.step), lambda: None)
            self.replay.start(self.environments.reset(fresh + 1))
        return notes


def _stacked(numbers: list[Tensor]) -> Tensor:
    return torch.stack(numbers) if numbers else torch.empty(0)
