"""What a program says while it works: how much is done and how long the rest will take."""

import math
import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

from experiments.runs.results.report import large_number, number


def time_left(seconds: float, about: str = "") -> str:
    """Return how long work will still take, in words; `about` stands before an estimate."""
    return "less than 1 s left" if 0 < seconds < 0.5 else f"{about}{seconds:.0f} s left"


class PartsProgress:
    """How far a preparation or a search is, part by part, on standard error.

    On a terminal one line that is written over. Elsewhere a line where a part begins that comes
    after a second or more, and every ten seconds of a part that takes long.
    """

    EVERY, SOON = 10.0, 1.0

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._start = self._said = self._began = time.perf_counter()
        self._part, self._done = "", 0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Hear that so much of a part is done; a new name is a new part.

        A method that learns several times begins the same part again.
        """
        now = time.perf_counter()
        begins = what != self._part
        if begins or done < self._done:
            self._part, self._began = what, now
        self._done = done
        if self._stream.isatty():
            if done == total or done % max(1, total // 100) == 0:
                shown = what if total == 1 else f"{what}: {done:,} of {total:,}"
                end = "\n" if done == total else ""
                print(f"\r{shown:<60}", end=end, file=self._stream, flush=True)
            return
        if now - self._said < (self.SOON if begins else self.EVERY):
            return
        self._said = now
        said = [what] if total == 1 else [f"{what}: {done:,} of {total:,}"]
        said.append(f"after {now - self._start:.0f} s")
        if 0 < done < total and now - self._began >= self.SOON:
            left = time_left((now - self._began) * (total - done) / done, "about ")
            said.append(f"{left} of this part")
        print(", ".join(said), file=self._stream, flush=True)


class Progress:
    """Steps done, run-steps a second, time left and the present error, on standard error.

    A bar on a terminal; elsewhere one line at about every tenth of the work, so that a log stays
    readable. `done` steps were there before, in a resumed run.
    """

    def __init__(
        self,
        label: str,
        steps: int,
        runs: int,
        done: int = 0,
        stream: TextIO | None = None,
        unit: str = "run-steps",
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._unit = unit
        self._label, self._steps, self._runs = label, steps, runs
        self._first, self._done = done, done
        self._start = time.perf_counter()
        self._tenth = 10 * done // max(steps, 1)
        self._bar: Any = None
        if self._stream.isatty():
            self._bar = tqdm(
                total=steps,
                initial=done,
                desc=label,
                file=self._stream,
                dynamic_ncols=True,
                bar_format="{desc}: {percentage:3.0f} %|{bar}| {n_fmt} of {total_fmt} steps, "
                "{remaining} left{postfix}",
            )

    def update(self, step: int, error: float | None = None, name: str = "RMSVE") -> None:
        """Show that `step` updates are done; `error` is the mean over survivors, if measured."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        rate = (step - self._first) / seconds
        said = [f"{large_number(rate * self._runs)} {self._unit} a second"]
        if error is not None and math.isfinite(error):
            said.append(f"{name} {number(error)}")
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(said), refresh=False)
            self._bar.update(step - self._done)
        elif 10 * step // max(self._steps, 1) > self._tenth:
            self._tenth = 10 * step // max(self._steps, 1)
            left = time_left((self._steps - step) / rate) if rate else "time left unknown"
            share = f"{step:,} of {self._steps:,} steps ({100 * step // self._steps} %)"
            print(f"{self._label}: {', '.join([share, left, *said])}", file=self._stream)
            self._stream.flush()
        self._done = step

    def close(self) -> None:
        """Leave the screen to others."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
