"""Learning rates by part of a network in one stock optimiser: a slow body, a fast last layer.

    groups = parameter_groups(network, lr=1e-4, ratio=10)
    optimizer = torch.optim.RMSprop(groups)
    schedule = ConstantRatio(torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-4, total_steps=100))

Each group carries its label and its own base rate, so that a schedule can scale all rates and
never overwrite the split. Source: update (2) of arXiv 2605.15530.
"""

from neural_tdc.split_rates.assembly import check_groups
from neural_tdc.split_rates.groups import named_groups, parameter_groups
from neural_tdc.split_rates.heads import last_linear
from neural_tdc.split_rates.muon import muon_adamw
from neural_tdc.split_rates.rates import ConstantRatio, effective_rates, hold_ratio, scale

__all__ = [
    "ConstantRatio",
    "check_groups",
    "effective_rates",
    "hold_ratio",
    "last_linear",
    "muon_adamw",
    "named_groups",
    "parameter_groups",
    "scale",
]
