"""What holds alike for `convergence` and `two_step` when they are stopped and resumed."""

import functools
import itertools
import json
import pkgutil

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.convergence import descents as convergence_descents
from experiments.convergence.__main__ import convergence
from experiments.runs.folder.checkpoint import save_checkpoint
from experiments.two_step.__main__ import two_step

LINES = {
    convergence: "--instance scalar chain --runs 3 --steps 110 --out",
    two_step: "--width 6 --draws 20 --sums 0.4 0.1 --optima 3 --optima-width 4 --out",
}
# Where a run and a part of a study are saved.
RECORDED = "runs.recording.recorder.save_checkpoint"
PART = "runs.recording.finished_parts.save_checkpoint"
# What differs between two runs of one command.
CLOCK = ("date", "seconds", "run_steps_per_second")
both = pytest.mark.parametrize("program", LINES, ids=lambda program: program.__name__)


@pytest.fixture(autouse=True)
def small_programs(monkeypatch):
    """Write the data of a figure in its place, and measure seldom: both take longest."""

    def drawn(path, *data):
        shown = [
            [each.steps.tolist(), *(each.values(name).tolist() for name in each.names)]
            if hasattr(each, "names")
            else each
            for each in data
        ]
        path.write_text(repr(shown))

    monkeypatch.setattr("experiments.convergence.run.draw_convergence", drawn)
    monkeypatch.setattr("experiments.two_step.run.draw_two_step", drawn)
    seldom = functools.partial(convergence_descents.measured_updates, points=6)
    monkeypatch.setattr(convergence_descents, "measured_updates", seldom)


def contents(folder):
    """Return all that a run wrote for its reader, without the clock."""
    found = {name: (folder / name).read_bytes() for name in ("metrics.csv", "figure.png")}
    for name in ("config.json", "summary.json"):
        content = json.loads((folder / name).read_text())
        found[name] = {key: value for key, value in content.items() if key not in CLOCK}
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = events.Tags()["scalars"]
    found["curves"] = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}
    return found


def ctrl_c_in_place_of(patch, name, number):
    """Press Ctrl-C in place of a function's call of that number, and of every later one."""
    function, calls = pkgutil.resolve_name(name), itertools.count(1)

    def pressed(*arguments):
        if next(calls) >= number:
            raise KeyboardInterrupt
        return function(*arguments)

    patch.setattr(name, pressed)


@pytest.mark.parametrize(
    ("program", "stops"),
    [
        (
            convergence,
            {
                "before it has saved anything": (RECORDED, 1),
                "with more in its table than it has saved": (RECORDED, 4),
                "with more in its events": (RECORDED, 1),
                "between its instances": ("convergence.descents.descend", 2),
                "after its last update": ("convergence.run.kink", 1),
            },
        ),
        (
            two_step,
            {
                "before it has saved anything": (PART, 1),
                "before it has saved a part": (PART, 5),
                "in the same part": (PART, 1),
                "between a part and the time it took": (PART, 2),
                "in a part": ("two_step.optima.optimum", 2),
                "after its last part": ("two_step.run.draw_two_step", 1),
            },
        ),
    ],
    ids=["convergence", "two_step"],
)
def test_a_run_that_was_stopped_ends_with_the_bits_of_one_that_was_not(
    run_program, tmp_path, monkeypatch, program, stops
):
    line = LINES[program]
    assert run_program(program, f"{line} whole").status == 0
    resume = ""
    for when, (function, number) in stops.items():
        with monkeypatch.context() as patch:
            ctrl_c_in_place_of(patch, f"experiments.{function}", number)
            stopped = run_program(program, f"{line} parts{resume}")
        assert stopped.status == 130, when
        resume = " --resume"
        command = f"python -m experiments.{program.__name__} {line} parts --resume"
        assert stopped.lines[-1] == f"stopped; continue with: {command}"
    assert run_program(program, f"{line} parts --resume").status == 0
    whole, parts = (contents(tmp_path / name) for name in ("whole", "parts"))
    assert parts == whole
    assert ("moreau" in repr(whole["curves"])) == (program is convergence)


@both
def test_a_finished_run_that_is_resumed_stays_as_it_is(run_program, tmp_path, program):
    assert run_program(program, f"{LINES[program]} run").status == 0

    def present():
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    files, shown = present(), contents(tmp_path / "run")
    assert run_program(program, f"{LINES[program]} run --resume").status == 0
    assert files.keys() == present().keys()
    changed = {path.name for path, content in files.items() if path.read_bytes() != content}
    # Their date and seconds.
    assert changed <= {"config.json", "summary.json"}
    assert contents(tmp_path / "run") == shown


@both
def test_a_full_disk_leaves_what_is_finished_and_says_how_to_go_on(
    run_program, monkeypatch, program
):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("experiments.runs.folder.files.write_bytes", full)
        begun = run_program(program, f"{LINES[program]} run")
    assert begun.status == 1
    said = (
        "error: No space left on device; nothing was saved; correct the cause and run the "
        "command again"
    )
    assert begun.lines[-1] == said
    monkeypatch.setattr("experiments.runs.folder.checkpoint.torch.save", full)
    stopped = run_program(program, f"{LINES[program]} run")
    assert stopped.status == 1
    kept = "the last checkpoint is" if program is convergence else "finished parts are"
    assert stopped.lines[-1].startswith(
        f"error: No space left on device; {kept} kept, continue with:"
    )


@both
def test_what_cannot_be_resumed_is_said_and_left_as_it_is(run_program, refused, tmp_path, program):
    line = LINES[program]
    refused(program, f"{line} run --resume", "--out run does not exist; leave out --resume")
    assert run_program(program, f"{line} run").status == 0
    refused(program, f"{line} run --resume --overwrite", "--resume and --overwrite exclude")
    refused(
        program,
        f"{line} run --resume --seed 1",
        "--seed 1 differs from the 0 of the run in run; --resume may not change it",
    )
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    refused(program, f"{line} run --resume", "run/checkpoint.pt is damaged")
    save_checkpoint(checkpoint, {"step": 3})
    refused(program, f"{line} run --resume", "run/checkpoint.pt belongs to ")
    checkpoint.unlink()
    refused(
        program, f"{line} run --resume", "--out run holds a finished run without its checkpoint"
    )


@both
def test_another_program_s_run_is_not_resumed(run_program, refused, program):
    (other,) = (each for each in LINES if each is not program)
    assert run_program(other, f"{LINES[other]} run").status == 0
    said = "--out run holds no run of this program to resume: its config.json has no "
    refused(program, f"{LINES[program]} run --resume", said)
