"""The memory that control groups leave, and one line for what does not fit."""

import pytest

from neural_tdc import device_memory
from neural_tdc.device_memory import available_bytes, check_memory

MB = 10**6


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Return a function that writes control groups: {path: (limit, used, cache of files)}."""
    monkeypatch.setattr(device_memory, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(device_memory, "_MEMBERSHIP", tmp_path / "membership")

    def write(membership, version, limits):
        (tmp_path / "membership").write_text(membership)
        limit_file, used_file, cache_name = device_memory._FILES[version]
        for path, (limit, used, cache) in limits.items():
            folder = tmp_path / "groups" / path
            folder.mkdir(parents=True, exist_ok=True)
            (folder / limit_file).write_text(f"{limit}\n")
            (folder / used_file).write_text(f"{used}\n")
            (folder / "memory.stat").write_text(f"anon 7\n{cache_name} {cache}\n")

    return write


def test_a_group_leaves_its_limit_less_what_it_uses_beyond_its_cache_of_files(groups):
    groups("0::/job\n", 2, {"job": (100 * MB, 80 * MB, 30 * MB)})
    assert available_bytes("cpu") == 50 * MB


@pytest.mark.parametrize("tight", ["job", "job/step", "job/step/task"])
def test_the_tightest_of_nested_groups_counts(groups, tight):
    limits = dict.fromkeys(["job", "job/step", "job/step/task"], ("max", 3 * MB, 0))
    limits[tight] = (9 * MB, 3 * MB, 0)
    groups("0::/job/step/task\n", 2, limits)
    assert available_bytes("cpu") == 6 * MB


def test_the_first_version_of_groups_is_read_below_its_own_folder(groups):
    outer = (20 * MB, 5 * MB, 0)
    groups(
        "9:cpu,cpuacct:/elsewhere\n4:memory:/slurm/job_7\n0::/\n",
        1,
        {"memory/slurm": outer, "memory/slurm/job_7": (18 * MB, 1 * MB, 0)},
    )
    assert available_bytes("cpu") == 15 * MB


def test_within_a_container_the_mounted_root_counts(groups):
    groups("0::/../../some/host/path\n", 2, {".": (12 * MB, 2 * MB, 0)})
    assert available_bytes("cpu") == 10 * MB


def test_a_group_over_its_limit_leaves_nothing(groups):
    groups("0::/job\n", 2, {"job": (5 * MB, 9 * MB, MB)})
    assert available_bytes("cpu") == 0


def test_without_groups_the_machine_counts(groups):
    groups("", 2, {})
    free = available_bytes("cpu")
    assert free is None or free > MB


def test_what_does_not_fit_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(device_memory, "_host_bytes", lambda: 3 * 10**9)
    check_memory("a table", 10**9, "cpu", on_host=2 * 10**9)
    with pytest.raises(ValueError) as refused:
        check_memory("a table", 10**9, "cpu", on_host=2 * 10**9 + 10**7)
    assert str(refused.value) == "a table takes 3.01 GB, and cpu has 3.00 GB available"


def test_what_nobody_can_tell_is_not_refused(monkeypatch):
    monkeypatch.setattr(device_memory, "_host_bytes", lambda: None)
    check_memory("a table", 10**18, "cpu")
