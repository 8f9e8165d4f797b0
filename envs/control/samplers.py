"""Policies that draw their actions themselves, asked with generators that follow from numbers."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.control.policies import is_sampler, policy_name


def sampled_actions(
    policy: Any, observation: np.ndarray, level: np.ndarray, together: bool
) -> np.ndarray:
    """Let a policy draw actions by generators that follow from uniform numbers [n].

    observation: [n, …]; returns [n, …]
    together: one generator for all, from the first number; else the rows one by one, so that each
        is what it would be alone
    """
    seen = torch.from_numpy(observation.copy())
    rows = [seen] if together else list(seen.split(1))
    return np.concatenate(
        [_one_sample(policy, row, int(seed * 2**53)) for row, seed in zip(rows, level)]
    )


def _one_sample(policy: Any, observation: Tensor, seed: int) -> np.ndarray:
    # Torch's own generator too, which the distributions of torch draw from.
    outside = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        if is_sampler(policy):
            drawn = policy.sample(observation, torch.Generator().manual_seed(seed))
        else:
            drawn = policy(observation).sample()
        return torch.as_tensor(drawn).detach().cpu().double().numpy()
    except Exception as error:  # a user's own function, which can fail in any way
        raise ValueError(
            f"the policy {policy_name(policy)} failed to sample at observations of shape "
            f"{list(observation.shape)}: {type(error).__name__}: {error}"
        ) from error
    finally:
        torch.set_rng_state(outside)


def sampler_log_probability(policy: Any, observation: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Return log π(a|s) of a policy that samples by itself, [n].

    Raises ValueError in one line where the policy has no `log_probability`, or where that fails.
    """
    if not hasattr(policy, "log_probability"):
        raise ValueError(
            f"the policy {policy_name(policy)} has no log_probability(observation, action), which "
            "importance ratios need"
        )
    seen, taken = torch.from_numpy(observation.copy()), torch.from_numpy(action.copy())
    try:
        given = torch.as_tensor(policy.log_probability(seen, taken)).detach().cpu().double().numpy()
    except Exception as error:  # a user's own function, which can fail in any way
        raise ValueError(
            f"log_probability of the policy {policy_name(policy)} failed: "
            f"{type(error).__name__}: {error}"
        ) from error
    if given.shape != (len(observation),):
        raise ValueError(
            f"log_probability of the policy {policy_name(policy)} returned the shape "
            f"{list(given.shape)}; it must return [{len(observation)}]"
        )
    return given


def first_shown(action: np.ndarray) -> str:
    """Return how a message shows actions [n, …]: their shape and the first numbers."""
    return f"the shape {list(action.shape)}, first {action.ravel()[:4].tolist()}"
