"""The cores that affinity, control groups and Slurm leave to a process."""

import os

import pytest

from neural_tdc import cores


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that makes a machine of 64 cores with a group's files."""
    monkeypatch.setattr(cores, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(cores, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)

    def make(membership="", files=(), affinity=64, slurm=None):
        (tmp_path / "membership").write_text(membership)
        for name, content in dict(files).items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(affinity)))
        if slurm is not None:
            monkeypatch.setenv("SLURM_CPUS_PER_TASK", slurm)
        return cores.available_cores()

    return make


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 64),
        ({"affinity": 3}, 3),
        ({"slurm": "6"}, 6),
        ({"slurm": "many"}, 64),
        ({"slurm": "0"}, 1),
        ({"slurm": "9", "affinity": 5}, 5),
        ({"membership": "0::/job\n", "files": {"job/cpu.max": "400000 100000\n"}}, 4),
        ({"membership": "0::/job\n", "files": {"job/cpu.max": "50000 100000\n"}}, 1),
        ({"membership": "0::/job\n", "files": {"job/cpu.max": "max 100000\n"}}, 64),
        # The tightest of nested groups counts.
        (
            {
                "membership": "0::/job/step\n",
                "files": {"job/cpu.max": "250000 100000", "job/step/cpu.max": "700000 100000"},
            },
            2,
        ),
        # Version 1.
        (
            {
                "membership": "4:cpu,cpuacct:/job\n2:memory:/other\n",
                "files": {
                    "cpu/job/cpu.cfs_quota_us": "500000",
                    "cpu/job/cpu.cfs_period_us": "100000",
                    "cpu/other/cpu.cfs_quota_us": "100000",
                    "cpu/other/cpu.cfs_period_us": "100000",
                },
            },
            5,
        ),
        (
            {
                "files": {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            },
            64,
        ),
        # A container that sees its own group as the root.
        ({"membership": "0::/\n", "files": {"cpu.max": "300000 100000"}}, 3),
    ],
)
def test_the_smallest_limit_counts(machine, options, expected):
    assert machine(**options) == expected
