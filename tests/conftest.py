"""What all tests share: shapes are checked, slow tests come first, and a mode for devices.

The check must stand before any import of the project.
"""

import os

from jaxtyping import install_import_hook

install_import_hook(["neural_tdc", "envs", "agents"], "beartype.beartype")


import pytest  # noqa: E402
import torch  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

# The suite compiles far more programs than one command: headers compiled once are worth it here.
os.environ.setdefault("TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS", "1")
# The tensors of the tests are small: a second thread would cost more by waiting than it does.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk():
    """Let no file be brought to the disk: it takes longer than the rest of a tiny run.

    A reader in the same machine sees what was written, also after `kill -9`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def pytest_collection_modifyitems(items):
    """Begin with the slow tests: no worker is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


aten = torch.ops.aten
COPIES = (aten.copy_.default, aten._to_copy.default)
# What waits for a GPU there although it does not on "meta": `linalg.solve` and its like look at an
# error code that their forms with `_ex` leave on the device, decompositions iterate on the host.
WAITS = (
    aten._linalg_check_errors.default,
    aten._linalg_eigh.default,
    aten._linalg_svd.default,
    aten.linalg_eig.default,
    aten.linalg_lstsq.default,
)


class OneDevice(TorchDispatchMode):
    """Raise where an operation takes tensors of two devices, numbers excepted.

    waits:  let pass what waits for the device
    copies: let pass what copies from one device to another
    """

    def __init__(self, waits=False, copies=False):
        super().__init__()
        self.waits, self.copies = waits, copies

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.dim() > 0}
        if function in COPIES:
            devices |= {torch.device(kwargs["device"]).type} if kwargs.get("device") else set()
        if len(devices) > 1 and not (self.copies and function in COPIES):
            raise AssertionError(f"{function} takes tensors of {' and '.join(sorted(devices))}")
        if not self.waits and function in WAITS:
            raise AssertionError(f"{function} waits for the device")
        return function(*args, **kwargs)


@pytest.fixture
def one_device():
    """Return a mode, to be entered any number of times, for updates: they wait for nothing."""
    return OneDevice()


@pytest.fixture
def one_device_fed():
    """Return the same mode for what the host feeds: what it waits for is found, copies are not."""
    return OneDevice(copies=True)


@pytest.fixture
def one_device_at_rest():
    """Return the same mode for what stands between updates and may wait, such as measuring."""
    return OneDevice(waits=True)
