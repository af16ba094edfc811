"""What a job's log gets instead of a bar."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest

from tatcli.cli import console
from tatcli.cli.batch import _watching
from tatcli.cli.progress_lines import ProgressLines, in_hours


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_line_comes_after_a_minute_with_what_is_left(clock):
    lines = []
    log = ProgressLines(lines.append, clock=clock)
    for step in range(1, 62):
        clock.now = 100.0 + step
        log.report("train", step, 301, " steps")
    # 59 steps in the 59 seconds since the first report: 241 more at one a second
    assert lines == ["train: 60 of 301 steps, about 4 min left"]


def test_lines_grow_rarer_but_never_cease(clock):
    told = []
    log = ProgressLines(lambda _: told.append(clock.now - 100), clock=clock)
    for second in range(4 * 3600):
        clock.now = 100.0 + second
        log.report("train", second, 10**6)
    assert told[:3] == [60, 120, 180]
    gaps = [later - earlier for earlier, later in pairwise(told)]
    assert gaps == sorted(gaps)
    assert max(gaps) == 600


def test_each_stage_counts_from_its_own_beginning(clock):
    lines = []
    log = ProgressLines(lines.append, clock=clock)
    log.report("tuning", 0, 10)
    clock.now += 1000
    log.report("scoring", 0, 4)  # a line is due, and nothing is known of the speed
    clock.now += 1000
    log.report("scoring", 1, 4)
    clock.now += 1000
    log.report("scoring", 4, 4)
    assert lines == ["scoring: 0 of 4", "scoring: 1 of 4, about 50 min left", "scoring: 4 of 4"]


def test_what_a_resumed_run_had_done_before_does_not_count(clock):
    lines = []
    log = ProgressLines(lines.append, clock=clock)
    log.report("train", 901, 1000, " steps")
    clock.now += 90
    log.report("train", 910, 1000, " steps")
    assert lines == ["train: 910 of 1000 steps, about 15 min left"]


def test_a_batch_counts_what_is_left_for_it(monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr("tatcli.cli.progress_lines.ProgressLines.__init__.__kwdefaults__", {"clock": clock})
    with _watching(quiet=False, verbose=False) as watch:
        watch({"event": "start", "scans": 9, "of": 9})
        watch({"event": "finished", "scan": "a"})
        watch({"event": "several", "scan": "b", "series": ["1", "2"], "scans": 10})
        watch({"event": "done", "scan": "c"})
        clock.now += 120
        watch({"event": "failed", "scan": "d", "reason": "cut"})
        watch({"event": "progress", "scan": "e", "slice": 5, "of": 9})
        clock.now += 60
        watch({"event": "progress", "scan": "e", "slice": 6, "of": 9})
        watch({"event": "warning", "message": "odd"})
    line = "restore: 2 of 9 scans, 1 failed, about"  # two in two minutes, then in three: seven are left
    assert capsys.readouterr().err == f"{line} 7 min left\n{line} 10 min left\nwarning: odd\n"
    with _watching(quiet=True, verbose=False) as watch:
        clock.now += 1000
        watch({"event": "done", "scan": "c"})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("seconds", "words"), [(42.26, "42.3 s"), (119, "2 min"), (7100, "118 min"), (9000, "2.5 h")])
def test_times_are_told_in_the_unit_that_reads_best(seconds, words):
    assert in_hours(seconds) == words


def test_a_log_gets_lines_unless_it_is_to_be_quiet(monkeypatch, capsys):
    monkeypatch.setattr("tatcli.cli.progress_lines._FIRST", 0.0)
    with console.progress_bar("train", unit="step") as advance:
        advance(5, 10)
    with console.stage_bar() as report:
        report("scoring\x1b", 5, 10)
    assert capsys.readouterr().err == "train: 5 of 10 steps\nscoring\\x1b: 5 of 10\n"
    with console.progress_bar("train", unit="step", quiet=True) as advance:
        assert advance is None
    with console.stage_bar(quiet=True) as report:
        report("scoring", 5, 10)
    assert capsys.readouterr().err == ""


def test_a_line_among_bars_stands_on_its_own(monkeypatch, terminal):
    screen = terminal()
    with console.progress_bar("train", unit="step") as advance:
        advance(5, 10)
        console.note("step 5 of 10: ct-denoise +2.00 dB")
    shown = screen.getvalue().replace("\r", "\n").split("\n")
    assert "step 5 of 10: ct-denoise +2.00 dB" in [line.strip() for line in shown]
    assert sys.stderr is screen
