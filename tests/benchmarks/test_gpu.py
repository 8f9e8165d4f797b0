"""The program for a GPU runs small on the CPU, and one part that fails leaves the others."""

import importlib
import json
import sys
import zipfile

import pytest
import torch

from benchmarks.gpu import populations
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.programs import ran
from benchmarks.gpu.record import Record
from benchmarks.gpu.table import text_table
from benchmarks.gpu.wheels import unpack_missing


def rows_of(folder):
    return json.loads((folder / "gpu.json").read_text())


def small(folder, *parts):
    return main(["--device", "cpu", "--small", "--out", str(folder), "--only", *parts])


def test_all_parts_within_the_process_give_numbers_and_a_table(tmp_path):
    assert small(tmp_path, "device", "populations", "updates", "bits") == 0
    rows = rows_of(tmp_path)
    assert [row for row in rows if "error" in row] == []
    assert [row["part"] for row in rows if row["part"] == "replay"] == ["replay"] * 4
    (step,) = [row for row in rows if row["part"] == "populations"]
    assert step["run_steps_per_second"] == pytest.approx(
        6e6 / step["microseconds_a_step"], rel=1e-3
    )
    updates = {row["variant"] for row in rows if row["part"] == "updates"}
    assert updates == {"float32", "bf16", "2 runs"}
    assert all(row["same_again"] for row in rows if row["part"] == "bits")
    table = (tmp_path / "gpu.md").read_text()
    assert table.startswith(f"## cpu, torch {torch.__version__}")
    assert "| 6 | sgd | 1 | eager |" in table


def test_a_part_that_fails_is_a_row_and_the_others_have_results(tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("out of memory\nof the device")

    monkeypatch.setattr(populations, "population", fails)
    assert small(tmp_path, "device", "populations") == 0
    device, failed = rows_of(tmp_path)
    assert device["copy_gigabytes_per_second"] > 0
    assert failed["error"] == "RuntimeError: out of memory of the device"
    assert failed["runs"] == 6
    assert "out of memory" in (tmp_path / "gpu.md").read_text()


def test_what_no_time_is_left_for_is_left_out(tmp_path):
    record = Record(tmp_path / "rows.jsonl", budget=5.0)
    assert record.guarded("study", 10, lambda: pytest.fail("was begun")) is None
    assert "left out" in record.rows[0]["error"]
    assert record.guarded("study", 1, lambda: 7) == 7
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 1


def test_without_a_device_the_line_says_what_to_try(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 2
    assert "--device cpu --small" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "expected"),
    [("print(6 * 7)", (0, ["42"])), ("raise SystemExit(3)", (3, []))],
)
def test_a_program_s_status_and_last_lines_are_told(tmp_path, code, expected):
    assert ran(["-c", code], 60, tmp_path / "log") == expected


def test_a_program_that_takes_too_long_is_stopped(tmp_path):
    code = "import time; print('begun', flush=True); time.sleep(60)"
    assert ran(["-c", code], 0.5, tmp_path / "log")[0] is None


def test_wheels_are_unpacked_where_the_package_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "before")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("not_there_yet", "numpy"):
        with zipfile.ZipFile(tmp_path / f"{name}-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{name}/__init__.py", "ANSWER = 42\n")
    into = tmp_path / "packages"
    assert unpack_missing(tmp_path, into) == ["not_there_yet-1.0-py3-none-any.whl"]
    assert importlib.import_module("not_there_yet").ANSWER == 42
    assert [folder.name for folder in into.iterdir()] == ["not_there_yet"]
    with pytest.raises(ValueError, match=r"no file \*\.whl"):
        unpack_missing(into, into)


def test_a_table_without_a_device_is_a_table():
    assert text_table([]).startswith("## unknown device")
