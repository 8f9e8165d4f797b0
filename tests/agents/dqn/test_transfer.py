"""Arrays in one buffer are the arrays, wherever they begin."""

import numpy as np
import pytest
import torch

from agents.dqn.replay import Replay
from agents.dqn.stacked_replay import StackedReplay
from agents.dqn.transfer import on_device, packed, unpacked

ARRAYS = [
    np.arange(6).reshape(2, 3),
    np.linspace(0, 1, 5, dtype=np.float32),
    np.array([True, False, True]),
    np.arange(4, dtype=np.float64)[::2],
    np.zeros((0, 2), dtype=np.int64),
]


def test_arrays_of_any_length_and_dtype_come_back_from_one_buffer():
    buffer = packed(ARRAYS, "cpu")
    assert buffer.dtype == torch.uint8
    for array, tensor in zip(ARRAYS, unpacked(buffer, ARRAYS), strict=True):
        assert tensor.untyped_storage().data_ptr() == buffer.untyped_storage().data_ptr()
        np.testing.assert_array_equal(tensor.numpy(), array)
        assert tensor.numpy().dtype == array.dtype


def test_on_the_cpu_nothing_is_copied():
    (tensor,) = on_device(ARRAYS[:1], torch.device("cpu"))
    assert tensor.data_ptr() == ARRAYS[0].ctypes.data


@pytest.fixture
def counted(one_device_fed):
    """Return a mode that counts the copies to a device: its `brought`."""

    class Counted(type(one_device_fed)):
        brought = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.brought += function is torch.ops.aten._to_copy.default
            return super().__torch_dispatch__(function, types, args, kwargs)

    return Counted(copies=True)


def test_a_device_gets_all_by_one_copy(counted):
    with counted:
        found = on_device(ARRAYS, torch.device("meta"))
    assert [tuple(each.shape) for each in found] == [array.shape for array in ARRAYS]
    assert counted.brought == 1


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("stacked", [False, True])
def test_a_batch_is_one_copy_of_segments_too(counted, length, stacked):
    options = {"dtype": "float32", "device": "meta", "sequence_length": length}
    ones, no = np.ones(1, dtype=np.float32), np.zeros(1, dtype=bool)
    frame = np.zeros((1, 2), dtype=np.float32)
    replay = StackedReplay(1, 12, (2,), **options) if stacked else Replay(12, 1, (2,), **options)
    replay.start(frame)
    for _ in range(8):
        if stacked:
            replay.append(np.arange(1), np.zeros(1, dtype=int), ones, no, no, frame)
        else:
            replay.append(np.zeros(1, dtype=int), ones, no, no, no, frame)
    source = torch.Generator().manual_seed(0)
    with counted:
        batch = replay.sample(6, [source] if stacked else source)
    assert counted.brought == 1
    assert (batch.follows is None) == (length == 1)
    assert batch.next_observation.shape[-2:] == (6, 2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_a_gpu_is_not_waited_for():
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = on_device(ARRAYS, torch.device("cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for array, tensor in zip(ARRAYS, found):
        np.testing.assert_array_equal(tensor.cpu().numpy(), array)
