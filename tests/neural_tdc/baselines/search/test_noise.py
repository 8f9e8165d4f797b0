import pytest
import torch

from neural_tdc.baselines.search.noise import shared_by_small


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([2.0, 3.1, 2.9, torch.inf], [0.5, 0, 0.5, 0]),
        # Nothing could be simulated: the weights that are there stay.
        ([torch.inf] * 4, [0.25, 0.75, 0, 0]),
    ],
)
def test_candidates_near_the_least_simulated_error_share_the_weight(errors, expected):
    weights = torch.tensor([0.25, 0.75, 0.0, 0.0], dtype=torch.float64)
    assert shared_by_small(torch.tensor(errors).double(), weights).tolist() == expected
