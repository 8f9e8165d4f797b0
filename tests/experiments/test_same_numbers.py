"""Every program against the numbers of a version before: the same seed gives the same numbers.

`same_numbers.json` holds, for each case, the program, its command line and the rows with which
some of its tables ended. float64 is compared to 1e-9, the float32 of deep Q-learning to 1e-3. A
change that means to compute something else replaces the numbers and says why.
"""

import csv
import json
import pkgutil
from pathlib import Path

import numpy as np
import pytest

CASES = json.loads(Path(__file__).with_name("same_numbers.json").read_text(encoding="utf-8"))
PROGRAMS = {
    name: f"experiments.{name}.__main__:{'draw_landscape' if name == 'landscape' else name}"
    for name in {case["program"] for case in CASES.values()}
}


def write_walk(path):
    """Write the log that one case reads: a two-sided random walk of 7 states, one-hot."""
    random, states, rows = np.random.default_rng(2), 7, []
    state = states // 2
    for _ in range(1200):
        action = int(random.integers(2))
        following = state + (1 if action else -1)
        ended = not 0 <= following < states
        rows.append((np.eye(states)[state], action, float(following == states), ended, False))
        state = states // 2 if ended else following
    names = ("observation", "action", "reward", "terminated", "truncated")
    np.savez(path, **{name: np.array(values) for name, values in zip(names, zip(*rows))})


def last_rows(path, count):
    """Return the last rows of a table by column; an empty cell is NaN, a word stays one."""

    def value(cell):
        try:
            return float(cell) if cell else float("nan")
        except ValueError:
            return cell

    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[-count:]
    return {name: [value(row[name]) for row in rows] for name in rows[0]}


def test_every_program_that_computes_has_its_numbers():
    without = {"plot", "runs"}
    folder = Path(__file__).parents[2] / "experiments"
    programs = {path.parent.name for path in folder.glob("*/__main__.py")}
    assert programs - without == set(PROGRAMS)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("name", CASES)
def test_a_program_computes_what_the_version_before_did(run_program, tmp_path, name):
    case = CASES[name]
    write_walk(tmp_path / "walk.npz")
    program = pkgutil.resolve_name(PROGRAMS[case["program"]])
    done = run_program(program, f"{case['line']} --out out")
    assert done.status == 0, done.error
    for path, columns in case["files"].items():
        found = last_rows(tmp_path / "out" / path, len(next(iter(columns.values()))))
        for column, expected in columns.items():
            if isinstance(expected[0], str):
                assert found[column] == expected, (path, column)
                continue
            numbers = [float("nan") if each is None else each for each in expected]
            assert found[column] == pytest.approx(
                numbers, rel=case["rel"], abs=1e-3 * case["rel"], nan_ok=True
            ), (path, column)
