"""Rules with given features and λ, and the state of a stream that has not begun."""

import torch

from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters

FEATURE = 3
HEADS = ("td", "tdc", "gtd2", "tdrc", "htd")


def given(body, observation):
    return observation


def rule(head, decay, **settings):
    return RULES[f"frozen+{head}"].with_settings(trace_decay=decay, **settings)


def begun(chosen, width=FEATURE, seed=0):
    """Return random parameters and the state of a stream that has not begun."""
    g = torch.Generator().manual_seed(seed)
    head = torch.randn(width, generator=g, dtype=torch.float64)
    parameters, state = chosen.init(Parameters({}, head, {}), torch.zeros(2, width).double(), g)
    omega = torch.randn(width, generator=g, dtype=torch.float64)
    return parameters._replace(auxiliary=dict.fromkeys(chosen.auxiliaries, omega)), state
