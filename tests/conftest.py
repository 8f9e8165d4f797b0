"""What all tests share: every annotated shape is checked while they run, and a mode for devices.

The check must stand before any import of the project.
"""

from jaxtyping import install_import_hook

install_import_hook(["neural_tdc", "envs", "agents"], "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

# The tensors of the tests are small: a second thread would cost more by waiting than it does.
torch.set_num_threads(1)

COPIES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)


class OneDevice(TorchDispatchMode):
    """Raise where an operation takes tensors of two devices, numbers and copies excepted."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function not in COPIES:
            tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
            devices = {tensor.device.type for tensor in tensors if tensor.dim() > 0}
            if len(devices) > 1:
                raise AssertionError(f"{function} takes tensors of {' and '.join(sorted(devices))}")
        return function(*args, **kwargs)


@pytest.fixture
def one_device():
    """Return a mode, to be entered any number of times, in which two devices may not meet."""
    return OneDevice()
