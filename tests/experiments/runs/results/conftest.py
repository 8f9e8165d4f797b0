import time

import pytest


@pytest.fixture
def now(monkeypatch):
    """Return the present of a clock that only the test moves."""
    present = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: present[0])
    return present
