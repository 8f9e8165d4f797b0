"""What values of actions ask of the evaluated policy: probabilities, or draws of actions.

A policy with discrete actions is a function from observations [n, *observation] to probabilities
[n, actions] or a `torch.distributions.Categorical`, or an object with `sample` and
`log_probability(observation, action)`. One with continuous actions is an object with
`sample(observation, generator)`, which returns actions [n, action] or [n]; or a function that
returns a `torch.distributions.Distribution` over them, or the actions themselves where it is
deterministic.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.byte_rows import as_numbers, evaluated_in_blocks
from neural_tdc.messages import first_line

# A softmax in float32 sums to one within this.
_TOLERANCE = 1e-5


@torch.no_grad()
def action_probabilities(
    policy: Any, observation: Float[Tensor, "n ..."], actions: int | None = None
) -> Float[Tensor, "n action"]:
    """Return π(·|s) in the dtype of the observations.

    actions: their number, which a policy must know that samples and has `log_probability`

    Raises ValueError in one line for a policy that fails or returns no distributions.
    """

    def of_block(seen: Tensor) -> Tensor:
        # A copy: a policy that scales its input in place must not touch the observations.
        block = as_numbers(seen).clone()
        given = _probabilities(policy, block, actions)
        given = torch.from_numpy(given) if isinstance(given, np.ndarray) else given
        if not isinstance(given, Tensor) or given.dim() != 2 or len(given) != len(block):
            shape = list(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise ValueError(
                f"policy returned {shape}; it must return probabilities [{len(block)}, actions]"
            )
        if float(given.min()) < 0 or not float((given.sum(1) - 1).abs().max()) <= _TOLERANCE:
            raise ValueError("policy returned probabilities that are negative or do not sum to 1")
        return given.to(observation)

    return evaluated_in_blocks(of_block, observation)


def _probabilities(policy: Any, observation: Tensor, actions: int | None) -> Any:
    if hasattr(policy, "sample"):
        if actions is None or not hasattr(policy, "log_probability"):
            raise ValueError(
                "policy samples its actions; values of discrete actions need their probabilities, "
                "or log_probability(observation, action)"
            )
        each = range(actions)
        count = len(observation)
        chances = [
            _asked(policy.log_probability, observation, torch.full((count,), action)).exp()
            for action in each
        ]
        return torch.stack(chances, 1)
    given = _asked(policy, observation)
    if isinstance(given, torch.distributions.Categorical | torch.distributions.OneHotCategorical):
        return given.probs
    return given


@torch.no_grad()
def drawn_actions(
    policy: Any, observation: Float[Tensor, "n ..."], draws: int, seed: int
) -> Float[Tensor, "n draw action"]:
    """Return continuous actions drawn from π(·|s), in the dtype of the observations.

    Raises ValueError in one line for a policy that fails or returns no actions.
    """
    source = torch.Generator().manual_seed(seed)
    # Distributions of torch draw from the global generator, which is put back.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return evaluated_in_blocks(
            lambda seen: _drawn(policy, as_numbers(seen).clone(), draws, source).to(observation),
            observation,
        )


def _drawn(policy: Any, observation: Tensor, draws: int, source: torch.Generator) -> Tensor:
    count = len(observation)
    if hasattr(policy, "sample"):
        each = [_asked(policy.sample, observation, source) for _ in range(draws)]
    else:
        given = _asked(policy, observation)
        sampled = isinstance(given, torch.distributions.Distribution)
        each = [given.sample() if sampled else given for _ in range(draws)]
    for action in each:
        if not isinstance(action, Tensor) or action.dim() not in (1, 2) or len(action) != count:
            shape = list(action.shape) if isinstance(action, Tensor) else type(action).__name__
            raise ValueError(f"policy returned {shape}; it must return actions [{count}, action]")
    return torch.stack([action.reshape(count, -1) for action in each], 1)


def _asked(function: Callable[..., Any], observation: Tensor, *others: Any) -> Any:
    try:
        return function(observation, *others)
    except Exception as error:  # A user's own function, which can fail in any way.
        said = first_line(error)
        raise ValueError(
            f"policy failed on observations of shape {list(observation.shape)}: {said}"
        ) from error
