"""What a Q-network learns from: a batch of n-step transitions."""

from typing import NamedTuple

import numpy as np
from torch import Tensor


class Batch(NamedTuple):
    """Transitions over n steps, or fewer where the value ended or the episode was cut before.

    Of a population, every leaf has the runs as its leading axis.

    observation:       [batch, *observation] s, in the frames' own dtype
    action:            [batch] a
    reward:            [batch] Σ γ^i r_i over the m ≤ n steps
    discount:          [batch] γ^m, or 0 where the game or a life was lost
    next_observation:  [batch, *observation] the observation m steps on; an episode's true last one
    next_number:       [batch] on the host: the number of its last frame, counted from the first
                       that was stored; modulo the replay's rows, the row where it lies
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_observation: Tensor
    next_number: np.ndarray
