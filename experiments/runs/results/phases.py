"""The account of a program: the seconds that went into each phase of its work.

    clock = PhaseClock()                       # in the phase "import", since the process started
    clock.switch("experience")
    …
    with clock.phase("write"):                 # and back to what was before
        …
    print(clock.line())

At every moment a program is in one phase, so that the phases add up to the time it has taken. The
seconds are those of the wall clock. On a device, learning is done when the next measurement reads
its first number; until then it is in the phase "learn".
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

# import:     from the start of the process to the first work: interpreter, modules, checks
# experience: collecting or reading transitions; truth: estimating true values
# compile:    making compiled programs
# learn, measure: updates; errors, evaluation
# write:      metrics, events, checkpoints, tables and figures
PHASES = ("import", "experience", "truth", "compile", "learn", "measure", "write")
# Of a program as a whole, done before any of its runs begins.
SHARED = ("import", "experience", "truth")

_counted = False


def process_age() -> float:
    """Return for how many seconds this process has been alive; where unknown, its CPU seconds."""
    try:
        # The name, in parentheses, may hold spaces; the 20th field after it is the start in ticks.
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return time.process_time()
    return max(age, 0.0)


class PhaseClock:
    """Counts the seconds of each phase. It starts in "import"; the first one of a process counts
    what was before it too.
    """

    def __init__(self) -> None:
        global _counted
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._seconds["import"] = 0.0 if _counted else process_age()
        _counted = True
        self._present, self._since = "import", time.perf_counter()

    def switch(self, phase: str) -> str:
        """Go to another phase and return the one before; ValueError for an unknown one."""
        if phase not in PHASES:
            raise ValueError(f"phase {phase!r} is not one of {', '.join(PHASES)}")
        now = time.perf_counter()
        self._seconds[self._present] += now - self._since
        before, self._present, self._since = self._present, phase, now
        return before

    @contextlib.contextmanager
    def phase(self, phase: str) -> Iterator[None]:
        """Be in a phase within the block, and then again in the one before."""
        before = self.switch(phase)
        try:
            yield
        finally:
            self.switch(before)

    def seconds(self) -> dict[str, float]:
        """Return the seconds of every phase so far."""
        self.switch(self._present)
        return dict(self._seconds)

    def line(self) -> str:
        """Return the line that a program ends with."""
        return phases_line(self.seconds())


def rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return {phase: seconds} as a summary has them, to the microsecond."""
    return {phase: round(spent, 6) for phase, spent in seconds.items()}


def phases_line(seconds: Mapping[str, float]) -> str:
    """Return {phase: seconds} as one line, without the phases that took less than 0.05 s."""
    said = [f"{phase} {spent:.1f}" for phase, spent in seconds.items() if spent >= 0.05]
    return f"seconds: {', '.join([*said, f'{sum(seconds.values()):.1f} in all'])}"
