"""Long tasks log a line when they start and at least every minute."""

import logging
import threading
import time

import pytest

from onion_lightning.heartbeat import Counter, Heartbeat, format_seconds, log_line, show_progress


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lines(caplog):
    """Returns a function that returns the lines that were logged, without the time of day."""
    caplog.set_level(logging.INFO, "onion_lightning")
    show_progress(True)

    def read():
        return [record.getMessage()[9:] for record in caplog.records if record.name == "onion_lightning.progress"]

    return read


def test_a_line_begins_with_the_time_of_day(caplog, lines):
    log_line("An egg")
    assert caplog.records[-1].getMessage() == time.strftime("%H:%M:%S") + " An egg"


def test_a_heartbeat_logs_only_when_the_last_line_is_a_minute_old(clock, lines):
    heart = Heartbeat(lambda: f"at {clock.now:.0f}", clock=clock)
    for clock.now in (0, 30, 59.9, 60, 61, 119.9, 120, 130):
        heart.beat()
    assert lines() == ["at 60", "at 120"]
    clock.now = 170
    heart.say("now")
    for clock.now in (180, 229, 230):
        heart.beat()
    assert lines()[2:] == ["now", "at 230"]


def test_a_heartbeat_needs_no_hook_while_a_task_blocks(lines):
    with Heartbeat(lambda: "alive", seconds=0.05):
        time.sleep(0.5)
    count = len(lines())
    assert 3 <= count <= 10
    time.sleep(0.2)
    assert len(lines()) == count


def test_no_thread_starts_where_nobody_sees_its_lines(lines):
    show_progress(False)
    with Heartbeat(lambda: "alive", seconds=0.01):
        assert "progress" not in {thread.name for thread in threading.enumerate()}
        log_line("An egg")
    assert lines() == []
    show_progress(True)


def test_rows_are_counted_at_the_start_and_every_minute(clock, lines):
    counter = Counter("tokenizing", 5000, clock)
    assert lines() == []
    for clock.now in (0, 25, 50, 75, 100):
        counter.begin(1000)
    assert lines() == ["tokenizing 5,000 rows", "tokenizing: 3,000 of 5,000 rows"]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (90_000, "1 day, 1:00:00")])
def test_durations_are_in_hours_minutes_and_seconds(seconds, text):
    assert format_seconds(seconds) == text
