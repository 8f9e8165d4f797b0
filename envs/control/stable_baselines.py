"""Policies of Stable-Baselines3: its zip files as functions from raw observations.

policy = stable_baselines_policy("ppo.zip")
policy = stable_baselines_policy("sac.zip", statistics="vecnormalize.pkl")

Stable-Baselines3's files hold pickled Python objects, and loading them runs any code that they
hold: load files of your own.
"""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.distributions import AffineTransform, TanhTransform, TransformedDistribution

from envs.control.trained_inputs import in_trained_shape

# What tells the files of an algorithm from the others, first match first.
_ALGORITHMS = {
    "clip_range": "PPO",
    "target_entropy": "SAC",
    "policy_delay": "TD3",
    "exploration_fraction": "DQN",
    "normalize_advantage": "A2C",
}
_WITHOUT_CHANCE = ("DQN", "TD3")
# In place of what only learning needs: schedules that do not load in other versions of Python, and
# a replay of many gigabytes.
_NOT_NEEDED = {
    "learning_rate": 0.0,
    "lr_schedule": lambda _: 0.0,
    "clip_range": lambda _: 0.0,
    "exploration_schedule": lambda _: 0.0,
    "buffer_size": 1,
}
_PACKAGE = "stable-baselines3"


class StableBaselinesPolicy:
    """A policy of Stable-Baselines3; see `envs.control.actions` for what it returns.

    DQN is greedy, TD3 and DDPG have no chance; PPO, A2C and SAC draw their actions as in training
    unless `deterministic`.
    """

    def __init__(
        self, name: str, model: Any, normalise: Callable[[Tensor], Tensor], deterministic: bool
    ) -> None:
        self.__name__ = name
        self.network: nn.Module = model.policy
        self.space, self.bounds = model.observation_space, model.action_space
        self.normalise, self.deterministic = normalise, deterministic
        self.network.set_training_mode(False)

    @torch.no_grad()
    def __call__(self, observation: Tensor) -> Any:
        """Return probabilities, a distribution, or actions at observations [n, …]."""
        seen = self.normalise(_as_trained(observation, self.space))
        policy: Any = self.network
        if hasattr(policy, "q_net"):
            return _one_hot(policy.q_net(seen))
        if not hasattr(policy, "actor") or policy.actor is None:
            return self._of_actor_critic(policy.get_distribution(seen))
        actor = policy.actor
        if not hasattr(actor, "get_action_dist_params"):
            return self._unscaled(actor(seen))
        mean, deviation, more = actor.get_action_dist_params(seen)
        normal = actor.action_dist.proba_distribution(mean, deviation, **more).distribution
        return self._squashed(normal)

    def _of_actor_critic(self, given: Any) -> Any:
        distribution = given.distribution
        if isinstance(self.bounds, spaces.Discrete):
            return _one_hot(distribution.probs) if self.deterministic else distribution
        if self.network.squash_output:
            return self._squashed(distribution)
        return distribution.mean if self.deterministic else distribution

    def _squashed(self, normal: Any) -> Any:
        """Return tanh of normal numbers between the bounds, as SAC and squashed gSDE act."""
        if self.deterministic:
            return self._unscaled(normal.mean.tanh())
        middle, half = self._middle_and_half()
        return TransformedDistribution(normal, [TanhTransform(), AffineTransform(middle, half)])

    def _unscaled(self, action: Tensor) -> Tensor:
        middle, half = self._middle_and_half()
        return middle + half * action

    def _middle_and_half(self) -> tuple[Tensor, Tensor]:
        low, high = torch.from_numpy(self.bounds.low), torch.from_numpy(self.bounds.high)
        return (high + low) / 2, (high - low) / 2


def stable_baselines_policy(
    path: Path | str, statistics: Path | str | None = None, deterministic: bool = False
) -> StableBaselinesPolicy:
    """Load the policy of a file that Stable-Baselines3's `save` wrote, on the CPU.

    path:        of DQN, PPO, A2C, SAC, TD3 or DDPG
    statistics:  the file of its VecNormalize, which then normalises observations
    deterministic: the likeliest action of PPO and A2C, the mean of SAC and of normal actions

    ValueError in one line: the package is not installed, a file is missing or of another kind, an
    algorithm or a kind of observations that is not known here.
    """
    try:
        import stable_baselines3
    except ImportError:
        raise ValueError(
            f"it needs the package {_PACKAGE}, which is not installed: pip install {_PACKAGE}"
        ) from None
    path = Path(path)
    name = _algorithm(path)
    try:
        model = getattr(stable_baselines3, name).load(
            path, device="cpu", custom_objects=_NOT_NEEDED
        )
    except Exception as error:  # whatever unpickling a file of another version raises
        raise ValueError(
            f"{path} cannot be loaded by {_PACKAGE}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(model.observation_space, spaces.Box | spaces.Discrete):
        raise ValueError(
            f"{path} reads observations of {type(model.observation_space).__name__}; only Box and "
            "Discrete can be evaluated here"
        )
    if deterministic and name in _WITHOUT_CHANCE:
        raise ValueError(
            f"the policy {name} of {path} is deterministic in any case: leave out deterministic"
        )
    normalise = _unchanged if statistics is None else _normalisation(Path(statistics))
    return StableBaselinesPolicy(f"{name} of {path.name}", model, normalise, deterministic)


def _algorithm(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError):
        raise ValueError(f"{path} was not saved by {_PACKAGE}") from None
    for field, name in _ALGORITHMS.items():
        if isinstance(data, dict) and field in data:
            return name
    raise ValueError(f"{path} is of an algorithm that is not one of DQN, PPO, A2C, SAC, TD3, DDPG")


def _unchanged(observation: Tensor) -> Tensor:
    return observation


def _normalisation(path: Path) -> Callable[[Tensor], Tensor]:
    """Return what a saved VecNormalize does to observations."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        with path.open("rb") as file:
            saved = pickle.load(file)  # As Stable-Baselines3 itself does.
        mean, variance = np.asarray(saved.obs_rms.mean), np.asarray(saved.obs_rms.var)
        shift, scale = map(torch.from_numpy, (mean, np.sqrt(variance + saved.epsilon)))
        limit, on = float(saved.clip_obs), bool(saved.norm_obs)
    except Exception as error:  # whatever unpickling another file raises
        raise ValueError(
            f"{path} holds no statistics of observations, as VecNormalize.save writes them: "
            f"{type(error).__name__}"
        ) from error

    def normalise(observation: Tensor) -> Tensor:
        return ((observation - shift) / scale).clamp(-limit, limit).float()

    return normalise if on else _unchanged


def _as_trained(observation: Tensor, space: Any) -> Tensor:
    """Return raw observations as the policy was trained on; ValueError for another shape."""
    if isinstance(space, spaces.Discrete):
        shape = tuple(observation.shape[1:])
        if shape != (int(space.n),):
            raise ValueError(f"it was trained on {space.n} discrete observations, not on {shape}")
        return observation.argmax(1)
    return in_trained_shape(observation, space.shape)


def _one_hot(preference: Tensor) -> Tensor:
    return nn.functional.one_hot(preference.argmax(1), preference.shape[1]).double()
