"""The scale of rewards: learn V/s from r/s, so that step sizes mean the same on every problem.

V is linear in the head, so values in the rewards' own unit are those of the head s·θ.
"""

import math

from neural_tdc.baselines.log_preparation import ordered_stream, value_units
from neural_tdc.types import Parameters, Transition

# What takes the place of a number: the scale of the data, or none.
AUTO_SCALE, NO_SCALE = "auto", "none"


def fixed_reward_scale(text: str) -> float | None:
    """Read `auto` as None, `none` as 1, and else a number above 0; ValueError for anything else."""
    if text == AUTO_SCALE:
        return None
    if text == NO_SCALE:
        return 1.0
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not 0 < scale < math.inf:
        raise ValueError(f"reward scale {text!r} is not auto, none or a finite number above 0")
    return scale


def scale_of_returns(transitions: Transition) -> float:
    """Return the standard deviation of the discounted returns of streams in their order.

    transitions: [time, …] or [stream, time, …], observations left out of account

    E|r|/(1 − γ) where hardly any return is complete, and 1 where all rewards are 0.
    """
    # Only rewards and discounts matter: observations may be large, or numbers of states.
    small = transitions._replace(
        observation=transitions.reward[..., None], next_observation=transitions.reward[..., None]
    )
    return value_units(ordered_stream(small)).scale


def with_scaled_rewards(transitions: Transition, scale: float) -> Transition:
    """Return the transitions with their rewards divided by a scale."""
    return transitions if scale == 1 else transitions._replace(reward=transitions.reward / scale)


def in_reward_units(parameters: Parameters, scale: float) -> Parameters:
    """Return parameters that were learned from r/scale as those of r: the same body, s·θ and s·ω.

    An auxiliary vector is linear in the rewards too. A dict among them, that of Maei's nonlinear
    rules for the body, is not: with θ it is the gradient for the body that has the unit.
    """
    if scale == 1:
        return parameters
    auxiliary = parameters.auxiliary
    if isinstance(auxiliary, dict):
        auxiliary = {
            name: each if isinstance(each, dict) else scale * each
            for name, each in auxiliary.items()
        }
    return parameters._replace(head=scale * parameters.head, auxiliary=auxiliary)
