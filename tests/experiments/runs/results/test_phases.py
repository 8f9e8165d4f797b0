import time

import pytest

from experiments.runs.results import phases
from experiments.runs.results.phases import PHASES, PhaseClock, phases_line, process_age


def test_every_second_belongs_to_one_phase_and_inner_phases_interrupt_outer_ones(now):
    clock = PhaseClock()
    before = clock.seconds()["import"]
    now[0] += 1
    assert clock.switch("learn") == "import"
    now[0] += 2
    with clock.phase("measure"):
        now[0] += 4
        with clock.phase("write"):
            now[0] += 8
        now[0] += 16
    now[0] += 32
    found = clock.seconds()
    assert list(found) == list(PHASES)
    assert found["import"] - before == 1
    assert (found["learn"], found["measure"], found["write"]) == (34, 20, 8)
    assert found["experience"] == found["truth"] == found["compile"] == 0


def test_a_phase_ends_with_its_block_also_where_the_block_fails(now):
    clock = PhaseClock()

    def fail():
        with clock.phase("learn"):
            now[0] += 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    now[0] += 5
    clock.switch("write")
    assert clock.seconds()["learn"] == 3


def test_an_unknown_phase_is_refused():
    with pytest.raises(ValueError, match="phase 'lern' is not one of import, experience"):
        PhaseClock().switch("lern")


def test_only_the_first_clock_of_a_process_counts_what_was_before_it(monkeypatch, now):
    monkeypatch.setattr(phases, "process_age", lambda: 7.5)
    monkeypatch.setattr(phases, "_counted", False)
    assert PhaseClock().seconds()["import"] == 7.5
    assert PhaseClock().seconds()["import"] == 0


def test_the_age_of_a_process_is_the_time_since_it_was_started(fork, wait_for, tmp_path):
    begun = time.monotonic()

    def aged():
        time.sleep(0.5)
        print(process_age())
        return 0

    ended = fork(aged).end()
    assert ended.status == 0, ended.error
    # The system counts in hundredths of a second.
    assert 0.48 <= float(ended.out) <= time.monotonic() - begun + 0.02


def test_where_the_system_does_not_tell_the_age_it_is_the_time_of_the_processor(monkeypatch):
    monkeypatch.setattr(phases, "Path", lambda path: phases.os.devnull)
    monkeypatch.setattr(phases.time, "process_time", lambda: 1.25)
    assert process_age() == 1.25


def test_the_line_leaves_out_what_took_no_time():
    seconds = {"import": 2.04, "learn": 0.01, "write": 0.46}
    assert phases_line(seconds) == "seconds: import 2.0, write 0.5, 2.5 in all"
