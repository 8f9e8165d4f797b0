"""An environment that is learned at once, and a training in it."""

import gymnasium
import numpy as np
from gymnasium import spaces

from agents.dqn.learner import Learner
from agents.dqn.optimizers import make_optimizer
from agents.dqn.q_network import make_network
from agents.dqn.replay import Replay
from agents.dqn.training import Training, TrainingSchedule

SCHEDULE = TrainingSchedule(
    batch=8,
    update_every=3,
    target_period=30,
    learning_starts=20,
    epsilon_first=1.0,
    epsilon_last=0.1,
    epsilon_steps=200,
    final_lr_factor=0.5,
    steps=600,
)


class Identity(gymnasium.Env):
    """Shows one of three states and pays 1 for the action of the same number; 7 steps a game."""

    observation_space = spaces.Box(0, 1, (3,), dtype=np.float32)
    action_space = spaces.Discrete(3)

    def _draw(self):
        self.state = int(self.np_random.integers(3))
        return np.eye(3, dtype=np.float32)[self.state]

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._draw(), {}

    def step(self, action):
        reward = float(action == self.state)
        self.steps += 1
        return self._draw(), reward, False, self.steps == 7, {}


def training(
    environments,
    seed=0,
    schedule=SCHEDULE,
    capacity=400,
    discount=0.9,
    remember=False,
    device="cpu",
    **rates,
):
    network = make_network(
        "mlp", environments.frame_shape, environments.actions, seed=seed, features=16, hidden=(24,)
    ).to(device)
    optimizer = make_optimizer("adam", network, rates.get("body", 2e-3), rates.get("head", 5e-3))
    replay = Replay(
        capacity,
        environments.count,
        environments.frame_shape,
        dtype="float32",
        discount=discount,
        device=device,
    )
    learner = Learner(network, optimizer, target_cache_rows=replay.rows if remember else 0)
    made = Training(learner, environments, replay, schedule, seed)
    made.begin()
    return made
