"""Seconds from a command to its figure: python -m benchmarks.commands.

Each command runs in a process of its own: first with an empty cache of compiled programs, then with
the programs that the first run left in the cache.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.command_line import CommandLine, result_file, write_results

COMMANDS = {
    "Gymnasium": "experiments.evaluate_policy --problem MountainCar-v0 --preset on-policy",
    "chain": "experiments.evaluate_policy --problem boyan --rule td tdc tdrc",
    "study": "experiments.sweep --problem garnet --width 8 --rule td tdc --body-steps 2^-8:2^-4 "
    "--ratios 1 10 --runs 30 --fresh-runs 0 --steps 3000 --measure-every 300 --workers 2",
}


def timed(command: Sequence[str], cache: Path) -> dict[str, float]:
    """Run a command with a cache of compiled programs; return its wall and its CPU seconds.

    Raises CalledProcessError where it fails.
    """
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache)}
    before, begun = os.times(), time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    wall, after = time.perf_counter() - begun, os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])
    return {"wall": wall, "cpu": cpu}


def phases(out: Path) -> dict[str, float]:
    """Return the seconds by phase that a program has stored, {} where it stores none."""
    summary = out / "summary.json"
    content: Any = json.loads(summary.read_text()) if summary.exists() else {}
    seconds = content.get("seconds", {})
    return dict(seconds) if isinstance(seconds, dict) else {}


def measured(name: str, command: str, folder: Path) -> list[dict[str, Any]]:
    """Run a command with an empty and with a filled cache; return a row for each."""
    rows = []
    for state in ("cold", "warm"):
        out = folder / f"{name}-{state}"
        line = [sys.executable, "-m", *command.split(), "--out", str(out)]
        seconds = timed(line, folder / f"{name}-cache")
        rows.append({"command": name, "cache": state, **seconds, "phases": phases(out)})
    return rows


def main() -> None:
    """Time all commands, print a table and write JSON."""
    parser = CommandLine("commands", __doc__)
    parser.add_argument(
        "--out",
        type=result_file,
        default=Path("runs/bench-commands.json"),
        help="file of the results, JSON",
    )
    options = parser.parse_args()
    rows = []
    print(f"{'command':>10} {'cache':>6} {'wall s':>8} {'CPU s':>8}  phases")
    with tempfile.TemporaryDirectory() as folder:
        for name, command in COMMANDS.items():
            for row in measured(name, command, Path(folder)):
                rows.append(row)
                parts = ", ".join(f"{phase} {value:.1f}" for phase, value in row["phases"].items())
                print(
                    f"{name:>10} {row['cache']:>6} {row['wall']:>8.1f} {row['cpu']:>8.1f}  {parts}",
                    flush=True,
                )
    write_results(options.out, {"commands": COMMANDS, "rows": rows})


if __name__ == "__main__":
    main()
