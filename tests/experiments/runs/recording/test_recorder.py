"""What a run writes while it works, a stop between any two lines, and what is resumed."""

import functools

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.runs.folder.checkpoint import load_checkpoint, restored
from experiments.runs.folder.files import read_json
from experiments.runs.recording import recorder as module
from experiments.runs.recording.recorder import Recorder
from experiments.runs.recording.tensorboard_log import TensorBoardLog
from experiments.runs.results.history import History, MetricsFile, read
from experiments.runs.results.phases import PhaseClock

RUNS = {"one": 2, "other": 3}


def folders(out):
    for part in RUNS:
        (out / part).mkdir(parents=True, exist_ok=True)
    return {part: out / part for part in RUNS}


def work(out, steps=7, stop=None, stopping=lambda: False, **how):
    """Run a population of two parts: its state is a number per run, and so is what is measured.

    stop: called after each measurement with its step
    """
    recorder = Recorder(out / "checkpoint.pt", folders(out), {"leaves"}, **how)
    state = {part: torch.zeros(runs) for part, runs in RUNS.items()}
    if recorder.saved is not None:
        state = restored(state, recorder.saved["leaves"], recorder.path)
        recorder.resume(range(steps + 1))
    if recorder.start >= steps:
        return recorder

    def contents(state):
        return {"leaves": list(state.values())}

    with recorder.writing(stopping):
        for step in range(recorder.start + 1, steps + 1):
            state = {part: 0.9 * x + step + torch.arange(len(x)) for part, x in state.items()}
            values = {part: {"error/x": x.double().numpy()} for part, x in state.items()}
            lost = {part: np.zeros(len(x), dtype=bool) for part, x in state.items()}
            kept = functools.partial(contents, state)
            recorder.record(step, values, lost, kept, {"speed/steps": float(step)})
            if stop is not None:
                stop(step)
        recorder.write_hparams({part: {"part": part} for part in RUNS})
    return recorder


def shown(out, tag):
    """Return what TensorBoard shows of a scalar, part by part."""
    found = {}
    for part in RUNS:
        log = EventAccumulator(str(out / part), size_guidance={"scalars": 0}).Reload()
        found[part] = [(event.step, event.value) for event in log.Scalars(tag)]
    return found


def same(one, other):
    """Assert that two folders hold the same measurements, curves and state."""
    for part in RUNS:
        assert (one / part / "metrics.csv").read_bytes() == (
            other / part / "metrics.csv"
        ).read_bytes()
    for tag in ("error/x", "runs/diverged"):
        assert shown(one, tag) == shown(other, tag)
    ours, theirs = (load_checkpoint(out / "checkpoint.pt") for out in (one, other))
    assert ours["step"] == theirs["step"]
    pairs = list(zip(ours["leaves"], theirs["leaves"], strict=True))
    assert len(pairs) == len(RUNS)
    assert all(torch.equal(a, b) for a, b in pairs)


def interrupted(monkeypatch, owner, name, call, action, again=False):
    """Stop an action at the given call of a method, before it does its work, or at all later ones.

    again: what is saved at the stop is stopped too
    """
    method, calls = getattr(owner, name), []

    def pressed(*arguments, **named):
        calls.append(1)
        if len(calls) == call or (again and len(calls) > call):
            raise KeyboardInterrupt
        return method(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, pressed)
        with pytest.raises(KeyboardInterrupt):
            action()


def test_every_part_has_its_table_and_its_curves_and_all_have_one_checkpoint(tmp_path):
    recorder = work(tmp_path)
    for part, runs in RUNS.items():
        history = read(tmp_path / part / "metrics.csv")
        assert history.steps.tolist() == [1, 2, 3, 4, 5, 6, 7]
        assert history.runs == runs
        np.testing.assert_array_equal(
            history.values("error/x"), recorder.histories[part].values("error/x"), strict=True
        )
    # The means of (1, 2), of (0.9 + 2, 1.8 + 3) and of (2.61 + 3, 4.32 + 4).
    curve = dict(shown(tmp_path, "error/x")["one"][:3])
    assert curve == pytest.approx({1: 1.5, 2: 3.85, 3: 6.965}, rel=1e-6)
    assert shown(tmp_path, "speed/steps")["other"] == [(k, float(k)) for k in range(1, 8)]
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    assert saved.keys() == {"step", "seconds", "leaves"}
    assert saved["step"] == 7
    assert recorder.seconds == saved["seconds"]


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        # Before anything is measured, between two parts, between history and table, between table
        # and events, while the checkpoint is written, at the last measurement, and after it.
        (History, "append", 1),
        (History, "append", 6),
        (MetricsFile, "write", 5),
        (TensorBoardLog, "write", 8),
        (TensorBoardLog, "flush", 3),
        (module, "save_checkpoint", 3),
        (TensorBoardLog, "write", 13),
        (TensorBoardLog, "write_hparams", 2),
    ],
)
@pytest.mark.parametrize(("every", "again"), [(0.0, False), (0.0, True), (100.0, False)])
def test_a_stop_between_any_two_lines_loses_and_repeats_nothing(
    tmp_path, monkeypatch, owner, name, call, every, again
):
    work(tmp_path / "whole", every=every)
    if every and name in ("save_checkpoint", "flush"):
        # There is one checkpoint, at the end.
        call = 1
    interrupted(
        monkeypatch, owner, name, call, lambda: work(tmp_path / "parts", every=every), again
    )
    if not (tmp_path / "parts" / "checkpoint.pt").exists():
        # `prepare_folder` removes what a run without a checkpoint left.
        for path in (tmp_path / "parts").glob("*/*"):
            path.unlink()
    work(tmp_path / "parts", every=every)
    same(tmp_path / "whole", tmp_path / "parts")


def test_what_the_checkpoint_relies_on_is_on_the_disk_before_it(tmp_path, monkeypatch):
    calls = []

    def noted(owner, name):
        method = getattr(owner, name)

        def call(*arguments, **named):
            calls.append((owner, name))
            return method(*arguments, **named)

        monkeypatch.setattr(owner, name, call)

    for owner in (MetricsFile, TensorBoardLog):
        noted(owner, "write")
        noted(owner, "flush")
    noted(module, "save_checkpoint")
    work(tmp_path, steps=1)
    written = [(MetricsFile, "write"), (TensorBoardLog, "write")] * 2
    flushed = [(MetricsFile, "flush"), (TensorBoardLog, "flush")] * 2
    assert calls == [*written, *flushed, (module, "save_checkpoint")]


def test_a_checkpoint_is_written_when_so_many_seconds_have_passed_and_at_the_end(
    tmp_path, monkeypatch
):
    now, saved = [100.0], []
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(module, "save_checkpoint", lambda _, state: saved.append(state))

    def pass_time(_):
        now[0] += 4.0

    work(tmp_path / "default", stop=pass_time)
    # Ten seconds after the start, and ten after that: at 12 and at 24 seconds.
    assert [state["step"] for state in saved] == [4, 7]
    assert [state["seconds"]["learn"] for state in saved] == [12.0, 24.0]
    saved.clear()
    work(tmp_path / "often", stop=pass_time, every=7.0)
    assert [state["step"] for state in saved] == [3, 5, 7]


def test_seconds_add_up_phase_by_phase_over_resumptions(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])

    def pass_time(_):
        now[0] += 3.0

    # The last measurement is the end of what is counted.
    assert work(tmp_path, steps=3, stop=pass_time).seconds["learn"] == 6.0
    now[0] += 1000.0
    assert work(tmp_path, steps=5, stop=pass_time).seconds["learn"] == 9.0
    clock = PhaseClock()
    recorder = Recorder(tmp_path / "checkpoint.pt", folders(tmp_path), set(), clock=clock)
    recorder.resume([5])
    now[0] += 7.0
    clock.switch("experience")
    now[0] += 20.0
    # A run before this one.
    clock.switch("learn")
    now[0] += 400.0
    with recorder.writing():
        now[0] += 1.0
        clock.switch("measure")
        now[0] += 50.0
        x = {part: {"error/x": np.zeros(runs)} for part, runs in RUNS.items()}
        lost = {part: np.zeros(runs, dtype=bool) for part, runs in RUNS.items()}
        recorder.record(6, x, lost, dict)
    found = recorder.seconds
    assert found == load_checkpoint(tmp_path / "checkpoint.pt")["seconds"]
    assert [found[phase] for phase in ("experience", "learn", "measure")] == [20.0, 10.0, 50.0]


def test_a_state_that_learning_changes_is_saved_at_a_measurement_or_not_at_all(tmp_path):
    def fail(step):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(tmp_path / "failed", stop=fail, in_place=True)
    assert not (tmp_path / "failed" / "checkpoint.pt").exists()
    asked = []
    with pytest.raises(KeyboardInterrupt):
        work(
            tmp_path / "asked",
            stop=lambda step: asked.append(step) if step < 4 else fail(step),
            in_place=True,
            stopping=lambda: len(asked) >= 2,
        )
    assert load_checkpoint(tmp_path / "asked" / "checkpoint.pt")["step"] == 4
    work(tmp_path / "whole", in_place=True)
    work(tmp_path / "asked", in_place=True)
    same(tmp_path / "whole", tmp_path / "asked")


def test_every_part_has_its_summary_with_the_seconds_of_all(tmp_path):
    recorder = work(tmp_path)
    found = recorder.summaries("walk", 7, 3, note="more")
    for part, runs in RUNS.items():
        assert read_json(tmp_path / part / "summary.json") == found[part]
        assert found[part]["seconds"] == pytest.approx(recorder.seconds, abs=1e-6)
        shown = {"problem": "walk", "rule": part, "runs": runs, "steps": 7, "seed": 3}
        assert found[part].items() >= {**shown, "note": "more"}.items()


def test_a_single_run_shows_no_count_of_diverged_runs(tmp_path):
    recorder = Recorder(tmp_path / "checkpoint.pt", {"run": tmp_path}, set())
    with recorder.writing():
        recorder.record(1, {"run": {"loss/td": np.array([0.5])}}, None, dict)
    assert read(tmp_path / "metrics.csv").diverged.tolist() == [False]
    assert EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"] == ["loss/td"]


def test_files_that_know_more_than_the_checkpoint_are_cut_back_to_it(tmp_path):
    work(tmp_path / "whole")
    work(tmp_path / "parts", steps=3)
    early = (tmp_path / "parts" / "checkpoint.pt").read_bytes()
    work(tmp_path / "parts", steps=6)
    # As after a power cut: the rest of the run is on the disk, but no later checkpoint.
    (tmp_path / "parts" / "checkpoint.pt").write_bytes(early)
    with (tmp_path / "parts" / "other" / "metrics.csv").open("a") as metrics:
        metrics.write("7,0,0,0.5")
    work(tmp_path / "parts")
    same(tmp_path / "whole", tmp_path / "parts")


def test_measurements_off_the_grid_of_a_longer_run_may_be_left_out(tmp_path):
    work(tmp_path, steps=4)
    recorder = Recorder(tmp_path / "checkpoint.pt", folders(tmp_path), {"leaves"})
    recorder.resume([1, 3, 5])
    assert recorder.start == 4
    with recorder.writing():
        pass
    for part in RUNS:
        assert read(tmp_path / part / "metrics.csv").steps.tolist() == [1, 2, 3]


def test_a_table_that_lost_measurements_is_refused_and_nothing_is_changed(tmp_path):
    work(tmp_path)
    path = tmp_path / "other" / "metrics.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-3]) + "\n")
    before = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    with pytest.raises(ValueError, match=r"other/metrics.csv ends before step 7.*--overwrite"):
        work(tmp_path, steps=9)
    assert {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()} == before


def test_another_program_s_checkpoint_and_another_network_s_are_refused(tmp_path):
    work(tmp_path)
    with pytest.raises(ValueError, match="belongs to another program's run, or to an older"):
        Recorder(tmp_path / "checkpoint.pt", folders(tmp_path), {"leaves", "optimizer"})
    saved = load_checkpoint(tmp_path / "checkpoint.pt")["leaves"]
    for other in ([torch.zeros(2), torch.zeros(4)], [torch.zeros(2)]):
        with pytest.raises(ValueError, match=r"checkpoint\.pt belongs to another run: its tensors"):
            restored(other, saved, tmp_path / "checkpoint.pt")


def test_a_run_without_its_measurements_says_what_to_do(tmp_path):
    work(tmp_path, steps=3)
    (tmp_path / "other" / "metrics.csv").unlink()
    with pytest.raises(ValueError, match=r"other/metrics.csv does not exist.*use --overwrite"):
        work(tmp_path, steps=5)
