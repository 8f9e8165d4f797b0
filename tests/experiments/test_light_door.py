"""A help page and a usage error of a program whose settings need no registry import no torch."""

import subprocess
import sys
from pathlib import Path

# Prints the heavy packages that three programs import before they work.
SCRIPT = """
import sys
from experiments.convergence.__main__ import convergence
from experiments.plot.__main__ import plot
from experiments.runs.command_line.program import main
from experiments.two_step.__main__ import two_step

for program, line in (
    (two_step, "--width 1"),
    (two_step, "--width 8 --resume --out nowhere"),
    (convergence, "--instance scaler"),
    (plot, "--metric"),
):
    assert main(program, line.split()) == 2
for program in (two_step, convergence, plot):
    try:
        main(program, ["--help"])
    except SystemExit as done:
        assert done.code == 0
heavy = {"torch", "numpy", "scipy", "matplotlib", "gymnasium", "tensorboard"} & {*sys.modules}
print("heavy:", *sorted(heavy))
"""


def test_help_and_usage_errors_import_nothing_heavy(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "heavy:"
    said = [line.partition(":")[2].strip() for line in done.stderr.splitlines()]
    assert [line.split()[0] for line in said] == ["--width", "--out", "--instance", "--metric"]
