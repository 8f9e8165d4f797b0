import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.runs.folder.files import (
    atomic_write,
    read_json,
    write_bytes,
    write_json,
    write_text,
)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path):
    write_text(tmp_path / "a.txt", "first, φ")
    write_bytes(tmp_path / "a.txt", b"second")
    assert (tmp_path / "a.txt").read_bytes() == b"second"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, function):
    write_text(tmp_path / "a.txt", "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, function, full)
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_the_data_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda _: calls.append("fsync"))
    monkeypatch.setattr(os, "replace", lambda *_: calls.append("replace"))
    write_text(tmp_path / "a.txt", "x")
    assert calls == ["fsync", "replace"]


def test_an_interrupted_block_leaves_nothing(tmp_path):
    def interrupted():
        with atomic_write(tmp_path / "a.txt") as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == []


def test_json_holds_null_for_what_json_has_not_and_plain_values_for_the_rest(tmp_path):
    data = {
        "nan": float("nan"),
        "inf": [np.inf, 1.5],
        "array": np.array([[1.0, np.nan], [2.0, 3.0]]),
        "integer": np.int64(3),
        "tensor": torch.tensor([1, 2]),
        "path": Path("a/b"),
        "flag": np.bool_(True),
        7: None,
    }
    write_json(tmp_path / "a.json", data)
    text = (tmp_path / "a.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text) == {
        "nan": None,
        "inf": [None, 1.5],
        "array": [[1.0, None], [2.0, 3.0]],
        "integer": 3,
        "tensor": [1, 2],
        "path": "a/b",
        "flag": True,
        "7": None,
    }


def test_damaged_and_missing_json_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"a\.json does not exist"):
        read_json(tmp_path / "a.json")
    for content in (b'{"a": ', b"\xff\xfe"):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.json is damaged") as caught:
            read_json(tmp_path / "a.json")
        assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_what_fails_has_the_name_that_the_user_knows(tmp_path):
    path = tmp_path / "nowhere" / "figure.png"
    with pytest.raises(OSError, match="No such file") as failure:
        write_bytes(path, b"x")
    assert failure.value.filename == str(path)
    # A full disk gives no name at all.
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    said = pytest.raises(OSError, match=r"No space left on device: '.*figure.png'")
    with said, atomic_write(tmp_path / "figure.png"):
        raise full
