import os

import numpy as np
import pytest

from experiments.runs.results.history import History, MetricsFile, cut, read

NAMES = ("error/rmsve", "tracking_error/head")


def measured(steps=(0, 100, 200), runs=3, diverges=None):
    """A history whose run `diverges[0]` is found diverged at the measurement `diverges[1]`."""
    numbers = np.random.default_rng(5)
    history = History()
    for index, step in enumerate(steps):
        flags = np.zeros(runs, dtype=bool)
        if diverges and index == diverges[1]:
            flags[diverges[0]] = True
        values = {name: numbers.standard_normal(runs) / 3 for name in NAMES}
        history.append(step, values, flags)
    return history


def write(path, history):
    """Write a history as a run does, one measurement after the other."""
    grown = History()
    file = MetricsFile(path, grown)
    for index, step in enumerate(history.steps):
        values = {name: history.values(name)[index] for name in history.names}
        grown.append(int(step), values, history.diverged_steps <= step)
        file.write()
    file.close()


def test_values_have_time_first_and_runs_last():
    history = measured()
    assert history.values("error/rmsve").shape == (3, 3)
    assert history.steps.tolist() == [0, 100, 200]
    assert history.names == NAMES
    assert (history.runs, len(history)) == (3, 3)
    np.testing.assert_array_equal(
        history.last("tracking_error/head"), history.values("tracking_error/head")[-1]
    )


def test_a_diverged_run_is_missing_from_then_on_though_its_flag_is_not_repeated():
    history = measured(steps=(1, 2, 3, 4), diverges=(1, 2))
    missing = np.isnan(history.values("error/rmsve"))
    assert missing.tolist() == [[False] * 3] * 2 + [[False, True, False]] * 2
    assert history.diverged.tolist() == [False, True, False]
    np.testing.assert_array_equal(history.diverged_steps, [np.nan, 3.0, np.nan])


def test_the_callers_arrays_are_neither_kept_nor_changed():
    values, flags = {"error/rmsve": np.array([1.0, 2.0])}, np.array([False, True])
    history = History()
    history.append(0, values, flags)
    flags[0] = True
    values["error/rmsve"][0] = 7.0
    assert values["error/rmsve"][1] == 2.0
    assert history.last("error/rmsve")[0] == 1.0
    assert history.diverged.tolist() == [False, True]


@pytest.mark.parametrize(
    ("step", "values", "diverged", "said"),
    [
        (
            200,
            {"error/rmsve": np.ones(2), "tracking_error/head": np.ones(2)},
            np.zeros(2),
            "after one at",
        ),
        (
            300,
            {"error/rmsve": np.ones(3), "tracking_error/head": np.ones(3)},
            np.zeros(2),
            "not one per run",
        ),
        (300, {"error/rmsve": np.ones(3)}, np.zeros(3), r"metrics \['error/rmsve'\] after"),
        (
            300,
            {"error/rmsve": np.ones(1), "tracking_error/head": np.ones(3)},
            np.zeros(3),
            "not one value",
        ),
        (
            300,
            {"error/rmsve": np.ones((3, 1)), "tracking_error/head": np.ones(3)},
            np.zeros(3),
            "not one val",
        ),
    ],
)
def test_a_measurement_that_does_not_fit_is_refused(step, values, diverged, said):
    history = measured()
    with pytest.raises(ValueError, match=said):
        history.append(step, values, diverged)
    assert len(history) == 3


def test_a_metric_without_a_group_or_with_a_comma_is_refused():
    for name in ("rmsve", "error/a,b", "error/a\nb"):
        with pytest.raises(ValueError, match="group/metric"):
            History().append(0, {name: np.ones(2)}, np.zeros(2, dtype=bool))


def test_an_unknown_metric_names_those_that_there_are():
    with pytest.raises(
        ValueError,
        match="no metric tracking_error/body; measured were error/rmsve, tracking_error/head",
    ):
        measured().values("tracking_error/body")


def test_the_file_gives_back_every_bit(tmp_path):
    history = measured(steps=(0, 7, 19), diverges=(2, 1))
    extreme = {"error/rmsve": np.array([0.1 + 0.2, 5e-324, 1e308])}
    extreme["tracking_error/head"] = np.array([np.inf, -0.0, np.nan])
    history.append(20, extreme, np.zeros(3, dtype=bool))
    write(tmp_path / "metrics.csv", history)
    again = read(tmp_path / "metrics.csv")
    for name in NAMES:
        np.testing.assert_array_equal(again.values(name), history.values(name))
    assert again.names == history.names
    assert again.steps.tolist() == history.steps.tolist()
    np.testing.assert_array_equal(again.diverged_steps, history.diverged_steps)


def test_the_file_reads_as_the_table_that_is_promised(tmp_path):
    history = History()
    values = {"error/rmsve": np.array([0.5, 2.0]), "tracking_error/head": np.array([np.nan, 1.0])}
    history.append(0, values, np.array([False, False]))
    history.append(100, values, np.array([False, True]))
    write(tmp_path / "metrics.csv", history)
    assert (tmp_path / "metrics.csv").read_text() == (
        "step,run,diverged,error/rmsve,tracking_error/head\n"
        "0,0,0,0.5,\n0,1,0,2.0,1.0\n100,0,0,0.5,\n100,1,1,,\n"
    )


def test_measurements_are_appended_as_they_come(tmp_path):
    path, history, source = tmp_path / "metrics.csv", History(), measured()
    file = MetricsFile(path, history)
    for index in range(3):
        values = {name: source.values(name)[index] for name in NAMES}
        history.append(int(source.steps[index]), values, np.zeros(3, dtype=bool))
        file.write()
        file.flush()
        assert len(read(path)) == index + 1
    file.write()
    file.close()
    assert path.read_text().count("\n") == 1 + 3 * 3


def test_flushing_reaches_the_disk_and_reports_what_the_disk_says(tmp_path, monkeypatch):
    history = History()
    file = MetricsFile(tmp_path / "metrics.csv", history)
    synchronised = []
    monkeypatch.setattr(os, "fsync", synchronised.append)
    file.flush()
    assert len(synchronised) == 1

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        file.flush()


def test_resuming_cuts_the_rows_after_the_checkpoint_and_goes_on(tmp_path):
    path, whole = tmp_path / "metrics.csv", measured(steps=(0, 100, 200, 300))
    write(path, whole)
    complete = path.read_bytes()
    cut(path, 150)
    history = read(path)
    assert history.steps.tolist() == [0, 100]
    file = MetricsFile(path, history)
    for index in (2, 3):
        values = {name: whole.values(name)[index] for name in NAMES}
        history.append(int(whole.steps[index]), values, np.zeros(3, dtype=bool))
        file.write()
    file.close()
    assert path.read_bytes() == complete


def test_every_torn_tail_is_cut_and_read(tmp_path):
    path = tmp_path / "metrics.csv"
    write(path, measured(steps=(0, 100, 200)))
    whole = path.read_bytes()
    start = whole.index(b"200,0,")
    second = whole[:start]
    for length in range(start, len(whole)):
        path.write_bytes(whole[:length])
        assert read(path).steps.tolist() == [0, 100]
        cut(path, 100)
        assert path.read_bytes() == second


def test_a_torn_header_leaves_an_empty_file_that_can_be_begun_again(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,run,dive")
    assert len(read(path)) == 0
    cut(path, 100)
    assert path.read_bytes() == b""
    write(path, measured())
    assert len(read(path)) == 3


def test_cutting_keeps_the_old_file_where_the_new_one_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    write(path, measured())
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        cut(path, 0)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("damage", [b"100,1,0,x,1.0", b"100,2,0,1.0,1.0", b"100,1,0,1.0", b"100"])
def test_damage_in_the_middle_is_told_by_its_line(tmp_path, damage):
    path = tmp_path / "metrics.csv"
    write(path, measured())
    lines = path.read_bytes().split(b"\n")
    lines[5] = damage
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(ValueError, match="line 6 is damaged"):
        read(path)


def test_steps_that_go_back_in_a_file_are_told(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,run,diverged,error/rmsve\n5,0,0,1.0\n4,0,0,1.0\n4,1,0,1.0\n")
    with pytest.raises(ValueError, match="is damaged"):
        read(path)


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"\xff\xfe\x00", b"hello\n"])
def test_a_foreign_file_is_no_table_of_measurements(tmp_path, content):
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a table of measurements"):
        read(path)
    with pytest.raises(ValueError, match="not a table of measurements"):
        cut(path, 3)
    assert path.read_bytes() == content


def test_a_byte_order_mark_before_the_table_is_passed_over(tmp_path):
    path, history = tmp_path / "metrics.csv", measured()
    write(path, history)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(path).names == history.names
    cut(path, 100)
    again = read(path)
    assert again.steps.tolist() == [0, 100]
    MetricsFile(path, again).close()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"metrics\.csv does not exist"):
        read(tmp_path / "metrics.csv")


def test_rows_are_not_appended_to_another_runs_file(tmp_path):
    path = tmp_path / "metrics.csv"
    write(path, measured())
    with pytest.raises(ValueError, match="other measurements"):
        MetricsFile(path, History())
    other = History()
    other.append(0, {"error/rmspbe": np.ones(3)}, np.zeros(3, dtype=bool))
    with pytest.raises(ValueError, match="other measurements"):
        MetricsFile(path, other)
