"""Every command of every page, run to its end in an empty folder: `make pages`, some minutes.

In `make test` one command of six programs, with tiny sizes and without figures.
"""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.page_commands import PAGES, ROOT, pieces, with_sizes
from tests.page_sizes import MODULES, NEEDS, NOT_RUN, SMALLER


def row(table, command):
    """Return what a table says of a command; None if it has no row for it."""
    return next((said for words, said in table.items() if words in command), None)


WITH_COMMANDS = [page for page in PAGES if any(not each.python for each in pieces(page))]
COMMANDS = [text for page in WITH_COMMANDS for python, text in pieces(page) if not python]
RUN = [text for text in COMMANDS if row(NOT_RUN, text) is None]
# A job array of Slurm in two parts in place of eight, one after the other.
SLURM = 'srun() { "$@"; }\n'
ARRAY = "for SLURM_ARRAY_TASK_ID in 1 2; do {}; done"


def served(process):
    """Return the status of a server that said where it is, and was then stopped; else its own."""
    for line in process.stderr:
        if "http://" in line:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
            return 0
    return process.wait()


def run(command, folder):
    """Run a command as a reader does; return its status and what it said last."""
    command = command.replace("}/8", "}/2").replace("-of-8", "-of-2")
    if "${SLURM_ARRAY_TASK_ID}" in command:
        command = ARRAY.format(command)
    process = subprocess.Popen(
        ["bash", "-euc", SLURM + (f"exec {command}" if "tensorboard" in command else command)],
        cwd=folder,
        env={**os.environ, "PATH": f"{folder / '.venv/bin'}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if "tensorboard" in command:
        return served(process), ""
    said, error = process.communicate(timeout=1800)
    return process.returncode, said[-1000:] + error[-2000:]


@pytest.mark.pages
@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_a_page_run_to_their_end(page, tmp_path, monkeypatch, idx_files):
    for entry in ROOT.iterdir():
        if entry.name not in (".venv", "runs") and not entry.name.startswith(".git"):
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    idx_files(tmp_path / "FOLDER")
    monkeypatch.chdir(tmp_path)
    names, failed, begin = {}, [], time.monotonic()
    needed = [
        each for other, words in NEEDS.get(page, ()) for each in pieces(other) if words in each.text
    ]
    for python, text in [*needed, *pieces(page)]:
        name = MODULES.get(page) if python else None
        if python and (name or text.startswith("# mine.py")):
            with (tmp_path / (name or "mine.py")).open("a", encoding="utf-8") as module:
                module.write(f"{text}\n\n")
        elif python:
            exec(compile(text, page, "exec"), names)
        elif reason := row(NOT_RUN, text):
            print(f"{page}  not run, {reason}: {text}", flush=True)
        else:
            start = time.monotonic()
            status, said = run(with_sizes(text, row(SMALLER, text) or ""), tmp_path)
            seconds = time.monotonic() - start
            print(f"{page}  {seconds:.0f} s, status {status}: {text}", flush=True)
            if status:
                failed.append(f"{text}\n{said}")
    print(f"{page}  {time.monotonic() - begin:.0f} s in all", flush=True)
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("table", [SMALLER, NOT_RUN], ids=["smaller", "not run"])
def test_every_row_of_the_tables_is_for_some_command(table):
    assert {row({words: words for words in table}, text) for text in COMMANDS} >= table.keys()


TINY = {
    "evaluate_policy --problem two-states": "--steps 20 --runs 2 --compile off",
    "sweep --problem boyan": "--problem boyan --head-steps 2^-4 --steps 20 --runs 2"
    " --workers 1 --controls",
    "train_dqn --problem CartPole-v1": "--steps 60 --learning-starts 20 --batch 4 --hidden 4"
    " --features 3 --measure-every 30 --evaluate-every 60 --evaluation-episodes 1"
    " --evaluation-longest 9",
    "train_supervised --task friedman": "--steps 4 --runs 2 --measure-every 2"
    " --curvature-every 0 --compile off",
    "landscape": "--steps 4 --at 0 4 --measure-every 2 --runs 2 --curvature-runs 1 --grid 3"
    " --curvature-products 2 --curvature-samples 5 --compile off --hidden 3",
    "convergence": "--runs 2 --steps 100 --instance scalar",
}
FUNCTIONS = {"landscape": "draw_landscape"}


@pytest.mark.parametrize("words", TINY)
def test_a_command_of_several_programs_runs_to_its_end(words, run_program, no_figures, tmp_path):
    command = next(text for text in RUN if f"experiments.{words}" in text)
    line = with_sizes(command, f"{TINY[words]} --out run")
    program, arguments = re.fullmatch(r".*experiments\.(\w+) (.*)", line).groups()
    module = importlib.import_module(f"experiments.{program}.__main__")
    outcome = run_program(getattr(module, FUNCTIONS.get(program, program)), arguments)
    assert outcome.status == 0, outcome.error
    assert json.loads((tmp_path / "run/config.json").read_text())
    assert "run" in outcome.out


def folder(command):
    """Return where a command of ours writes, as far as its line says; None for other commands."""
    program = re.search(r"-m (experiments\.\w+|benchmarks\.[\w.]+)", command)
    if program is None or "--shard" in command or "--merge" in command:
        return None
    words = command.split()
    given = [flag for flag in ("--out", "--problem", "--task", "--study") if flag in words]
    if given[:1] == ["--out"]:
        return words[words.index("--out") + 1]
    if program[1].endswith("compare_dqn"):
        return program[1]
    return program[1], *(words[words.index(flag) + 1] for flag in given)


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_a_page_do_not_write_into_one_another_s_folders(page):
    commands = [text for python, text in pieces(page) if not python]
    # Benchmarks continue what they find.
    found = [folder(text) for text in commands if "experiments." in text]
    found = [each for each in found if each is not None]
    assert len(found) == len(set(found)), found
