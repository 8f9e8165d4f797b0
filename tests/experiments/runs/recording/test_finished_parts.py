"""Parts that are finished are kept: computed once, whole or not at all, and nobody else's."""

from typing import NamedTuple

import numpy as np
import pytest

from experiments.runs.folder.checkpoint import save_checkpoint
from experiments.runs.folder.configuration import configuration
from experiments.runs.folder.files import write_json
from experiments.runs.folder.folder_contents import CHECKPOINT, CONFIG
from experiments.runs.folder.run_folder import prepare_folder
from experiments.runs.recording.finished_parts import FinishedParts, seconds_to_write

VALUES = {
    "one": {"curve": np.arange(6.0).reshape(3, 2) / 3, "lost": np.array([True, False])},
    "two 1/2": {"rows": [{"low": None, "high": 0.1, "name": "ε"}], 3: (1, 2)},
    "x" * 300: {"count": np.arange(4)},
}


class Sized(NamedTuple):
    name: str
    size: int


PARTS = [Sized(name, size) for name, size in zip(VALUES, (2, 5, 3))]


class Worker:
    """Computes parts in turn, keeps what it was given, and stops before a part where told."""

    def __init__(self, stop_before=None):
        self.given, self.stop_before = [], stop_before

    def __call__(self, parts, on_progress):
        self.given = [part.name for part in parts]
        for part in parts:
            if part.name == self.stop_before:
                raise KeyboardInterrupt
            yield part, VALUES[part.name]
            on_progress(part.size)


def assert_same(found, expected):
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, item in expected.items():
            assert_same(found[key], item)
    else:
        assert found == expected


def test_values_come_back_to_the_bit_and_finished_parts_are_not_computed_again(tmp_path):
    first = Worker(stop_before="one")
    with pytest.raises(KeyboardInterrupt):
        FinishedParts(tmp_path).complete(PARTS, first, "work", "units")
    # The longest first.
    assert first.given == ["two 1/2", "x" * 300, "one"]
    begun = FinishedParts(tmp_path)
    spent = begun.seconds
    assert spent > 0
    again = Worker()
    found = begun.complete(PARTS, again, "work", "units")
    assert again.given == ["one"]
    assert list(found) == list(VALUES)
    assert_same(found, VALUES)
    assert begun.computed == 1
    assert FinishedParts(tmp_path).seconds == begun.seconds > spent


def test_a_summary_keeps_its_seconds_where_nothing_was_computed(tmp_path):
    path = tmp_path / "summary.json"
    assert seconds_to_write(path, {"learn": 2.0}, 0) == {"learn": 2.0}
    path.write_text('{"seconds": {"learn": 1.5, "write": 0.25}}')
    assert seconds_to_write(path, {"learn": 2.0}, 0) == {"learn": 1.5, "write": 0.25}
    assert seconds_to_write(path, {"learn": 2.0}, 3) == {"learn": 2.0}
    for damaged in ("[]", "{", '{"seconds": 3}', '{"seconds": {"learn": null}}'):
        path.write_text(damaged)
        assert seconds_to_write(path, {"learn": 2.0}, 0) == {"learn": 2.0}


def test_progress_counts_what_was_finished_before(tmp_path, capsys):
    parts = FinishedParts(tmp_path)
    parts.complete(PARTS[:2], Worker(), "work", "units")
    capsys.readouterr()
    parts.complete(PARTS, Worker(), "work", "units")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("work: 10 of 10 steps (100 %)")
    assert "units a second" in line


def test_a_damaged_part_is_named_and_may_be_removed(tmp_path):
    FinishedParts(tmp_path).complete(PARTS, Worker(), "work", "units")
    path = tmp_path / "parts" / "one.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"one\.pt is damaged.*remove it, and --resume") as caught:
        FinishedParts(tmp_path).complete(PARTS, Worker(), "work", "units")
    assert "\n" not in str(caught.value)
    path.unlink()
    again = Worker()
    assert_same(FinishedParts(tmp_path).complete(PARTS, again, "work", "units"), VALUES)
    assert again.given == ["one"]


def test_another_programs_checkpoint_is_refused(tmp_path):
    save_checkpoint(tmp_path / CHECKPOINT, {"seconds": 1.0, "values": {}})
    with pytest.raises(ValueError, match="another program's run, or to an older version"):
        FinishedParts(tmp_path)


def test_a_full_disk_leaves_the_finished_parts(tmp_path, monkeypatch):
    parts = FinishedParts(tmp_path)
    parts.complete(PARTS[:1], Worker(), "work", "units")

    def full(content, file):
        raise RuntimeError("PytorchStreamWriter failed writing file")

    with monkeypatch.context() as patch:
        patch.setattr("experiments.runs.folder.checkpoint.save_tensors", full)
        with pytest.raises(OSError, match="is the disk full"):
            parts.complete(PARTS, Worker(), "work", "units")
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["one.pt"]
    again = Worker()
    assert_same(FinishedParts(tmp_path).complete(PARTS, again, "work", "units"), VALUES)
    assert "one" not in again.given


def test_replacing_a_run_removes_its_parts_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    with prepare_folder(out):
        write_json(out / CONFIG, configuration({}))
        FinishedParts(out).complete(PARTS, Worker(), "work", "units")
    (out / "parts" / "notes.txt").touch()
    with prepare_folder(out, overwrite=True):
        assert [path.name for path in (out / "parts").iterdir()] == ["notes.txt"]
        assert not (out / CHECKPOINT).exists()
