"""A blocked event loop is logged, at most every ten seconds."""

import pytest
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from esxiproxy.ops.process.loop_lag import LoopLag


@pytest.fixture
def lines():
    found = []

    def observe(event):
        if event.get("log_namespace", "").startswith("esxiproxy.ops.process.loop_lag"):
            found.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def started():
    clock = Clock()
    lag = LoopLag(clock)
    lag.startService()
    return clock, lag


def run(clock, seconds):
    clock.pump([0.05] * int(seconds * 20))


def test_a_loop_without_a_stall_logs_nothing(lines):
    clock, lag = started()
    run(clock, 60)
    clock.advance(0.2)
    assert lines == [] and (lag.stalls, lag.longest) == (0, 0.0)


@pytest.mark.parametrize("into", [0.0, 0.02, 0.04])
def test_each_stall_of_more_than_250_ms_is_logged(lines, into):
    clock, lag = started()
    run(clock, 1)
    clock.advance(into)
    clock.advance(0.26)
    assert len(lines) == 1 and lag.stalls == 1
    assert lines[0].startswith("the event loop was blocked for 0.")


def test_many_stalls_give_one_line_in_ten_seconds_and_none_is_lost(lines):
    clock, lag = started()
    for seconds in (0.5, 0.6, 2.0, 0.4):
        clock.advance(seconds)
    assert lines == ["the event loop was blocked for 0.50 s, the longest 0.50 s"]
    run(clock, 10)
    assert lines[1:] == [
        "the event loop was blocked for 0.40 s; 3 stalls since the last line, the longest 2.00 s"
    ]
    assert (lag.stalls, lag.longest) == (4, 2.0)
    run(clock, 60)
    assert len(lines) == 2


def test_stalls_that_were_not_logged_are_logged_at_the_end(lines):
    clock, lag = started()
    clock.advance(0.5), clock.advance(0.7)
    lag.stopService()
    assert len(lines) == 2 and not clock.getDelayedCalls()


def test_the_longest_delay_is_taken_since_the_last_time(lines):
    clock, lag = started()
    run(clock, 1)
    assert lag.take_longest() == pytest.approx(0.0)
    clock.advance(0.25), clock.advance(0.15)
    assert lag.take_longest() == pytest.approx(0.2) and lag.take_longest() == 0.0
