"""Arrays of the host to the device: in one buffer and one copy, and without waiting for it.

To start a copy takes longer than to copy some hundred bytes. From memory that the system may move,
a copy waits until the device has done all work before it; from pinned memory it does not. torch
keeps the pinned memory of a copy until it is done, so that each call may ask for new memory.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# A tensor of any dtype may begin at a multiple of so many bytes.
_ALIGNMENT = 8


def host_buffer(
    shape: Sequence[int], dtype: torch.dtype, device: torch.device | str
) -> torch.Tensor:
    """Return an empty tensor on the host whose copy to the device does not block the host."""
    return torch.empty(*shape, dtype=dtype, pin_memory=torch.device(device).type == "cuda")


def _places(arrays: Sequence[np.ndarray]) -> list[int]:
    """Return where each array begins in a common buffer, and the length of that, in bytes."""
    places = [0]
    for array in arrays:
        places.append(-(-(places[-1] + array.nbytes) // _ALIGNMENT) * _ALIGNMENT)
    return places


def packed(arrays: Sequence[np.ndarray], device: torch.device | str) -> Tensor:
    """Return the bytes of the arrays, one after the other, in one buffer [bytes] on the host."""
    places = _places(arrays)
    buffer = host_buffer((places[-1],), torch.uint8, device)
    whole = buffer.numpy()
    for begin, array in zip(places, arrays):
        whole[begin : begin + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return buffer


def unpacked(buffer: Tensor, arrays: Sequence[np.ndarray]) -> list[Tensor]:
    """Return tensors of the shapes and dtypes of the arrays, which are parts of their buffer."""
    found = []
    for begin, array in zip(_places(arrays), arrays):
        dtype = torch.from_numpy(np.empty(0, dtype=array.dtype)).dtype
        flat = buffer[begin : begin + array.nbytes].view(dtype)
        found.append(flat.view(array.shape))
    return found


def on_device(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Return the arrays as tensors on the device, which is not waited for."""
    if device.type == "cpu":
        return [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    return unpacked(packed(arrays, device).to(device, non_blocking=True), arrays)
