"""How far a preparation or a run is, in lines that come neither too often nor too seldom."""

import io
import re

import pytest

from experiments.runs.results.progress import PartsProgress, Progress, time_left


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_quick_preparation_says_nothing(now):
    out = io.StringIO()
    progress = PartsProgress(out)
    for part in ("held-out transitions", "experience", "truth"):
        for done in (0, 50, 100):
            now[0] += 0.1
            progress(part, done, 100)
    assert out.getvalue() == ""


def test_elsewhere_than_on_a_terminal_parts_begin_with_a_line_and_long_ones_say_what_is_left(now):
    out = io.StringIO()
    progress = PartsProgress(out)
    now[0] += 2
    progress("lstd-random at scale 1", 0, 1)
    now[0] += 3
    progress("updates of bodies", 0, 8000)
    for done in range(200, 2001, 200):
        now[0] += 4
        progress("updates of bodies", done, 8000)
    assert out.getvalue().splitlines() == [
        "lstd-random at scale 1, after 2 s",
        "updates of bodies: 0 of 8,000, after 5 s",
        # Ten seconds of it are over at the third report.
        "updates of bodies: 600 of 8,000, after 17 s, about 148 s left of this part",
        "updates of bodies: 1,200 of 8,000, after 29 s, about 136 s left of this part",
        "updates of bodies: 1,800 of 8,000, after 41 s, about 124 s left of this part",
    ]


def test_a_part_that_begins_again_is_estimated_from_its_new_beginning(now):
    out = io.StringIO()
    progress = PartsProgress(out)
    for _ in range(2):
        for done in (200, 4000, 8000):
            progress("fitted", done, 8000)
            now[0] += 12
    assert out.getvalue().splitlines() == [
        "fitted: 4,000 of 8,000, after 12 s, about 12 s left of this part",
        "fitted: 8,000 of 8,000, after 24 s",
        "fitted: 200 of 8,000, after 36 s",
        "fitted: 4,000 of 8,000, after 48 s, about 12 s left of this part",
        "fitted: 8,000 of 8,000, after 60 s",
    ]


def test_on_a_terminal_there_is_one_line_that_is_written_over(now):
    out = io.StringIO()
    out.isatty = lambda: True
    progress = PartsProgress(out)
    for done in (0, 1, 50, 100):
        progress("truth", done, 100)
    progress("choice", 0, 1)
    shown = [line.rstrip() for line in out.getvalue().replace("\n", "\n\r").split("\r") if line]
    assert shown == [
        "truth: 0 of 100",
        "truth: 1 of 100",
        "truth: 50 of 100",
        "truth: 100 of 100",
        "choice",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "some 0 s left"), (0.4, "less than 1 s left"), (0.6, "some 1 s left")],
)
def test_hardly_any_time_left_is_not_none(seconds, said):
    assert time_left(seconds, "some ") == said


def test_without_a_terminal_there_are_some_ten_plain_lines():
    stream = io.StringIO()
    with Progress("td", steps=2000, runs=5, stream=stream) as progress:
        for step in range(1, 2001, 7):
            progress.update(step, 0.5)
        progress.update(2000, None)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert "\r" not in stream.getvalue()
    left = r"(\d+|less than 1) s left"
    expected = rf"td: 204 of 2,000 steps \(10 %\), {left}, \S+ run-steps a second, RMSVE 0\.5000"
    assert re.fullmatch(expected, lines[0])
    assert lines[-1].startswith("td: 2,000 of 2,000 steps (100 %), 0 s left")
    assert "RMSVE" not in lines[-1]


def test_a_resumed_run_counts_on_and_its_speed_is_of_what_it_does():
    stream = io.StringIO()
    progress = Progress("td", steps=1000, runs=2, done=900, stream=stream)
    progress._start -= 10.0
    progress.update(1000)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("td: 1,000 of 1,000 steps (100 %)")
    assert re.search(r", (20|19\.\d) run-steps a second", line)


def test_on_a_terminal_there_is_a_bar_with_speed_and_error():
    stream = Terminal()
    with Progress("td", steps=100, runs=5, done=50, stream=stream) as progress:
        progress.update(75, 0.25)
        progress._bar.refresh()
        progress.update(100, float("nan"))
    shown = stream.getvalue()
    assert "td:  75 %|" in shown
    assert "75 of 100 steps" in shown
    assert "run-steps a second, RMSVE 0.2500" in shown
    assert "100 of 100 steps" in shown
