"""Arrays in one buffer are the arrays, wherever they begin."""

import numpy as np
import pytest
import torch

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


def test_a_device_gets_all_by_one_copy(one_device_fed):
    copies = []

    class Counted(type(one_device_fed)):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten._to_copy.default:
                copies.append(function)
            return super().__torch_dispatch__(function, types, args, kwargs)

    with Counted(copies=True):
        found = on_device(ARRAYS, torch.device("meta"))
    assert [tuple(each.shape) for each in found] == [array.shape for array in ARRAYS]
    assert len(copies) == 1


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
