"""The rows of the benchmark: each is written as soon as it is known, also where it is an error."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Record:
    """Rows in a file, with the seconds that are left for more.

    file:    one JSON object a line
    budget:  seconds that all parts may take together
    """

    def __init__(self, file: Path, budget: float) -> None:
        self.file, self.rows, self._budget = file, [], budget
        self._begun = time.perf_counter()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")

    def left(self) -> float:
        """Return the seconds that are left."""
        return self._budget - (time.perf_counter() - self._begun)

    def row(self, part: str, **values: Any) -> None:
        """Add a row."""
        row = {"part": part, **{name: _json(value) for name, value in values.items()}}
        self.rows.append(row)
        line = json.dumps({**row, "at": round(time.perf_counter() - self._begun, 1)})
        with self.file.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def guarded(self, part: str, needs: float, function: Callable[[], Any], **values: Any) -> Any:
        """Call a function and return its result; None, with a row, where it fails or is too late.

        needs:  seconds that must be left
        values: what the row says besides the error
        """
        if self.left() < needs:
            self.row(part, **values, error=f"left out: {self.left():.0f} s are left")
            return None
        try:
            return function()
        # Whatever it is: the other parts have results all the same.
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self.row(part, **values, error=said)
            return None


def _json(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return value
