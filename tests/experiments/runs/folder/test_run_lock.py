"""One process at a time works on a folder, whatever ends it."""

import contextlib
import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.runs.folder import run_lock
from experiments.runs.folder.configuration import configuration
from experiments.runs.folder.files import write_json
from experiments.runs.folder.run_folder import check_folder, prepare_folder, prepare_folders
from experiments.runs.folder.run_lock import check_unlocked, locked

if run_lock.fcntl is None:
    pytest.skip("needs POSIX locks", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[4]
HOLD = """
import sys
from pathlib import Path
from experiments.runs.folder.run_lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_process():
    """Return a function that starts a process which works on a folder; all end with the test."""
    with contextlib.ExitStack() as started:

        def hold(folder):
            process = subprocess.Popen(
                [sys.executable, "-c", HOLD, str(folder)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            started.enter_context(process)
            started.callback(process.kill)
            assert process.stdout.readline() == "locked\n"
            return process

        yield hold


def tree(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def make_run(folder, *names, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", configuration(settings))
    for name in ("checkpoint.pt", *names):
        (folder / name).write_text(name)
    return folder


@contextlib.contextmanager
def refused(folder, pid):
    """Assert that a block is refused in one line that names the folder and the process."""
    before = tree(folder.parent)
    with pytest.raises(ValueError) as caught:
        yield
    assert str(caught.value) == (
        f"--out {folder}: another process is working on it (pid {pid}); wait until it ends or stop "
        "it, or give another folder"
    )
    assert tree(folder.parent) == before


def enter(context):
    with context:
        raise AssertionError("not refused")


@pytest.mark.parametrize("how", [{}, {"resume": True}, {"overwrite": True}])
@pytest.mark.parametrize("begun", [False, True], ids=["before its configuration", "at work"])
def test_a_folder_is_refused_while_another_process_works_on_it(tmp_path, other_process, how, begun):
    out = make_run(tmp_path / "out") if begun else tmp_path / "out"
    out.mkdir(exist_ok=True)
    pid = other_process(out).pid
    with refused(out, pid):
        check_folder(out, **how)
    with refused(out, pid):
        enter(prepare_folder(out, **how))
    with refused(out, pid):
        enter(prepare_folders(out, ["td", "tdc"], **how))


def test_a_process_that_was_killed_works_on_nothing(tmp_path, other_process):
    out = tmp_path / "out"
    out.mkdir()
    process = other_process(out)
    process.kill()
    process.wait()
    assert [path.name for path in out.iterdir()] == ["run.lock"]
    # The folder still counts as empty, and its file goes with the next lock.
    check_folder(out)
    with prepare_folder(out):
        assert (out / "run.lock").read_text().split()[0] == str(os.getpid())
    assert list(out.iterdir()) == []


def test_every_rule_s_folder_is_locked_with_the_one_of_all(tmp_path, other_process):
    out = make_run(tmp_path / "out", folders=["td", "tdc"])
    make_run(out / "td")
    make_run(out / "tdc")
    with prepare_folders(out, ["td", "tdc"], resume=True):
        for folder in (out, out / "td", out / "tdc"):
            with refused(folder, os.getpid()):
                check_folder(folder, resume=True)
    assert not list(tmp_path.rglob("run.lock"))
    # One of its rules may be at work on its own.
    pid = other_process(out / "tdc").pid
    for how in ({"resume": True}, {"overwrite": True}):
        with refused(out / "tdc", pid):
            enter(prepare_folders(out, ["td", "tdc"], **how))
    with refused(out / "tdc", pid):
        enter(prepare_folders(out, ["td", "htd"], overwrite=True))
    with refused(out / "tdc", pid):
        enter(prepare_folder(out, overwrite=True))


def test_rules_with_one_checkpoint_are_resumed_by_it_or_start_again(tmp_path):
    out = make_run(tmp_path / "out", folders=["split", "limit"])
    for arm in ("split", "limit"):
        (make_run(out / arm, "metrics.csv") / "checkpoint.pt").unlink()
    before = tree(out)
    arms = (out, ["split", "limit"], False, True)
    with prepare_folders(*arms, one_checkpoint=True):
        pass
    assert tree(out) == before
    (out / "checkpoint.pt").unlink()
    with prepare_folders(*arms, one_checkpoint=True) as folders:
        assert all(not (folder / "metrics.csv").exists() for folder in folders.values())


def test_a_lock_is_freed_by_an_error_and_taken_again(tmp_path):
    with pytest.raises(KeyboardInterrupt), locked(tmp_path):
        raise KeyboardInterrupt
    with locked(tmp_path), refused(tmp_path, os.getpid()):
        enter(locked(tmp_path))
    check_unlocked(tmp_path)


def test_the_process_of_another_machine_is_named_with_it(tmp_path, monkeypatch):
    with locked(tmp_path):
        monkeypatch.setattr(run_lock.socket, "gethostname", lambda: "elsewhere")
        with pytest.raises(ValueError, match=rf"\(pid {os.getpid()} on [^)]+\)"):
            check_unlocked(tmp_path)


def test_a_forked_process_does_not_keep_the_lock_of_the_one_it_came_from(tmp_path):
    reading, writing = os.pipe()
    owner = os.fork()
    if not owner:
        lock = locked(tmp_path)
        lock.__enter__()
        worker = os.fork()
        if not worker:
            os.read(reading, 1)
            os._exit(0)
        # As by `kill -9`: the lock is not given back.
        os._exit(0)
    os.waitpid(owner, 0)
    assert (tmp_path / "run.lock").exists()
    with locked(tmp_path):
        pass
    os.write(writing, b"x")


def test_a_file_that_its_last_owner_removed_meanwhile_is_not_the_lock(tmp_path, monkeypatch):
    is_free, calls = run_lock._is_free, []

    def removed_first(descriptor, shared=False):
        calls.append(1)
        if len(calls) == 1:
            (tmp_path / "run.lock").unlink()
        return is_free(descriptor, shared)

    monkeypatch.setattr(run_lock, "_is_free", removed_first)
    with locked(tmp_path):
        with pytest.raises(ValueError, match=re.escape(str(os.getpid()))):
            check_unlocked(tmp_path)
        assert len(calls) == 3


def test_a_file_system_that_knows_no_locks_takes_runs_too(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(run_lock.fcntl, "flock", no_locks)
    with prepare_folder(tmp_path / "out") as folder:
        check_folder(folder)
    assert list((tmp_path / "out").iterdir()) == []
