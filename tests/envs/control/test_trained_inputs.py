import pytest
import torch

from envs.control.trained_inputs import in_trained_shape


def test_pictures_with_the_channel_last_are_turned_and_others_are_not():
    seen = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert torch.equal(in_trained_shape(seen, (5, 3, 4)), seen.permute(0, 3, 1, 2))
    assert torch.equal(in_trained_shape(seen, (3, 4, 5)), seen)


def test_numbers_have_no_axis_of_their_own():
    assert in_trained_shape(torch.zeros(6, 1), ()).shape == (6,)


@pytest.mark.parametrize("shape", [(4,), (4, 3, 5), (60,)])
def test_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="it was trained on observations of shape"):
        in_trained_shape(torch.zeros(2, 3, 4, 5), shape)
