"""A stored program is the one that was stored, or none."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from neural_tdc.compiled import program_store
from neural_tdc.compiled.kernel_calls import Call, Layout, Place, Watched
from neural_tdc.compiled.kernel_loop import loop_of
from neural_tdc.compiled.kernels import Kernel
from neural_tdc.compiled.loop_source import loop_source
from neural_tdc.compiled.private_compiler import compiled_library
from neural_tdc.compiled.program_store import (
    StoredProgram,
    everything_stored,
    find_program,
    mark,
    marked,
    store_folder,
    store_program,
)

# x ← 2x + table
_KERNEL = """
extern "C" void kernel(const double* x, const double* table, double* out) {
    for (int n = 0; n < 3; ++n) out[n] = 2 * x[n] + table[n];
}
"""
KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def program():
    """Return a program of one kernel, made by hand."""
    places = [Place("input", 0, 0), Place("constant", 0, 0), Place("buffer", 0, 0)]
    calls = [Call(Kernel(compiled_library(_KERNEL), "kernel"), places)]
    table = torch.tensor([0.5, 0.25, -1.0], dtype=torch.float64)
    layout = Layout((3,), (1,), torch.float64)
    watched = Watched(calls, [layout], [table], [Place("buffer", 0, 0)])
    return StoredProgram(watched, compiled_library(loop_source(calls)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Let programs be stored in an empty folder of the test."""
    monkeypatch.setattr(program_store, "store_folder", lambda: tmp_path)
    return tmp_path


def repeated(found, times):
    """Return what a program makes of 1, 2, 3."""
    start = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    return loop_of(found, [start])([start], [[]], times, 1)[0].tolist()


def test_a_stored_program_computes_what_it_did(folder, program):
    assert find_program(KEY) == (False, None)
    store_program(KEY, program)
    known, found = find_program(KEY)
    assert known
    assert found is not None
    assert found.loop._name.startswith(str(folder))
    # Twice: 4x + 3·table.
    assert repeated(found, 2) == repeated(program, 2) == [5.5, 8.75, 9.0]
    assert find_program(OTHER) == (False, None)


def test_what_was_compiled_in_vain_is_known(folder):
    store_program(KEY, None)
    assert find_program(KEY) == (True, None)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_another_key(path):
    path.write_bytes((path.parent / f"{OTHER}.json").read_bytes())


def sealed(path):
    text = json.dumps({"key": KEY, "program": {"calls": []}}).encode()
    path.write_bytes(text + b"\n" + program_store.sha256(text).encode())


@pytest.mark.parametrize(
    ("ending", "damage"),
    [
        ("json", flip),
        ("json", lambda path: path.write_bytes(path.read_bytes()[:-9])),
        ("json", lambda path: path.write_bytes(b"")),
        ("json", of_another_key),
        ("json", sealed),
        ("so", flip),
        ("so", lambda path: path.write_bytes(path.read_bytes()[:100])),
        ("so", lambda path: path.unlink()),
    ],
)
def test_a_damaged_or_foreign_file_is_not_used_and_made_anew(folder, program, ending, damage):
    store_program(KEY, program)
    store_program(OTHER, None)
    for path in folder.glob(f"{KEY}.json" if ending == "json" else "*.so"):
        damage(path)
    assert find_program(KEY) == (False, None)
    store_program(KEY, program)
    known, found = find_program(KEY)
    assert known
    assert repeated(found, 1) == [2.5, 4.25, 5.0]


def test_a_reader_has_a_whole_program_or_none_while_others_write_it(folder, program):
    def written(_):
        store_program(KEY, program)

    def read(_):
        return find_program(KEY)

    with ThreadPoolExecutor(4) as pool:
        writing, reading = pool.map(written, range(30)), pool.map(read, range(60))
        list(writing)
        found = [each for known, each in reading if known]
    assert all(repeated(each, 1) == [2.5, 4.25, 5.0] for each in found[:3])
    assert None not in found
    assert find_program(KEY)[0]
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_large_tensors_of_a_program_and_a_full_disk_leave_it_unstored(folder, program, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(program_store, "_LARGEST_CONSTANTS", 23)
        store_program(KEY, program)
    assert list(folder.iterdir()) == []

    def full(descriptor, mode):
        os.close(descriptor)
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(program_store.os, "fdopen", full)
        store_program(KEY, program)
    assert list(folder.iterdir()) == []


def test_a_command_is_marked_where_all_its_programs_are_stored(folder, monkeypatch):
    missing = set()
    monkeypatch.setattr(program_store, "_MISSING", missing)
    assert everything_stored()
    for key in (KEY, None):
        find_program(key)
    assert missing == {KEY, None}
    assert not everything_stored()
    store_program(KEY, None)
    assert missing == {None}
    assert not marked(OTHER)
    mark(OTHER)
    assert marked(OTHER)
    assert find_program(OTHER) == (False, None)


@pytest.mark.parametrize(("mode", "used"), [(0o700, True), (0o755, True), (0o777, False)])
def test_only_a_folder_that_nobody_else_can_write_to_is_used(tmp_path, monkeypatch, mode, used):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    own = tmp_path / "neural_tdc"
    own.mkdir()
    own.chmod(mode)
    assert store_folder() == (own if used else None)
