"""What all tests share: shapes are checked, slow tests come first, and a mode for devices.

The check must stand before any import of the project.
"""

import os

from jaxtyping import install_import_hook

import tests.shape_checks  # noqa: F401

install_import_hook(["neural_tdc", "envs", "agents"], "tests.shape_checks.checked")


import pytest  # noqa: E402
import torch  # noqa: E402

from tests.device_modes import DOUBLES, OneDevice  # noqa: E402

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


@pytest.fixture
def one_device():
    """Return a mode, to be entered any number of times, for updates: they wait for nothing."""
    return OneDevice()


@pytest.fixture
def one_device_single():
    """Return the same mode for updates in float32, which make next to nothing in float64."""
    return OneDevice(doubles=DOUBLES)


@pytest.fixture
def one_device_fed():
    """Return the same mode for what the host feeds: what it waits for is found, copies are not."""
    return OneDevice(copies=True)


@pytest.fixture
def one_device_at_rest():
    """Return the same mode for what stands between updates and may wait, such as measuring."""
    return OneDevice(waits=True)
