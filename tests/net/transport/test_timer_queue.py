"""Tests of the timers in queues, beside those of Twisted's clock."""

from __future__ import annotations

import asyncio
import random

import pytest
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from esxiproxy.net.transport import timer_queue
from esxiproxy.net.transport.timer_queue import MOST_LENGTHS, TimerQueues


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def timers(clock):
    return TimerQueues(clock)


def test_timers_of_one_length_share_one_call_of_the_reactor(clock, timers):
    called = []
    first = timers.callLater(10.0, called.append, 1)
    clock.advance(1)
    second, third = timers.callLater(10.0, called.append, 2), timers.callLater(10.0, called.append, 3)
    assert len(clock.getDelayedCalls()) == 1
    assert timers.getDelayedCalls() == [first, second, third]
    assert verifyObject(IDelayedCall, first) and (first.getTime(), second.getTime()) == (10.0, 11.0)
    second.cancel()
    clock.advance(8.9)
    assert called == []
    clock.advance(0.1)
    assert called == [1] and not first.active() and third.active()
    clock.advance(1)
    assert called == [1, 3] and clock.getDelayedCalls() == [] == timers.getDelayedCalls()


def test_a_timer_that_has_ended_can_neither_be_cancelled_nor_moved(clock, timers):
    called, cancelled = timers.callLater(1.0, int), timers.callLater(1.0, int)
    cancelled.cancel()
    clock.advance(1)
    for call, error in ((called, AlreadyCalled), (cancelled, AlreadyCancelled)):
        for act in (call.cancel, lambda call=call: call.reset(1), lambda call=call: call.delay(1)):
            with pytest.raises(error):
                act()


def test_a_timer_can_be_moved(clock, timers):
    called = []
    sooner, later, dropped = (timers.callLater(10.0, called.append, each) for each in "sld")
    sooner.reset(1)
    later.delay(5)
    dropped.reset(2)
    dropped.cancel()
    assert (sooner.getTime(), later.getTime(), dropped.active()) == (1.0, 15.0, False)
    clock.advance(1)
    assert called == ["s"] and not sooner.active()
    clock.pump([9, 5])
    assert called == ["s", "l"]


@pytest.mark.parametrize("error", [IndexError, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_an_exception_ends_no_other_timer(clock, timers, error):
    def fail():
        raise error

    called = []
    timers.callLater(1.0, fail)
    timers.callLater(1.0, called.append, 1)
    with capturedLogs() as events:
        clock.advance(1)
    assert called == [1]
    assert [event["log_format"] for event in events] == ["a timer's function raised an exception"]
    timers.callLater(1.0, called.append, 2)
    clock.advance(1)
    assert called == [1, 2]


def test_a_log_that_fails_ends_no_other_timer(clock, timers, monkeypatch):
    def fail(*_):
        raise SystemExit

    called = []
    monkeypatch.setattr(timer_queue._log, "failure", fail)
    for each in (fail, lambda: called.append(1)):
        timers.callLater(1.0, each)
    with pytest.raises(SystemExit):
        clock.advance(1)
    timers.callLater(1.0, called.append, 2)
    clock.pump([0, 1])
    assert called == [1, 2] and clock.getDelayedCalls() == []


@pytest.mark.parametrize("cancelled", [0, 1, 200])
def test_a_timer_is_not_late_after_the_clock_was_set_back(clock, timers, cancelled):
    called = []
    for _ in range(cancelled):
        timers.callLater(1.0, int).cancel()
    if cancelled != 1:
        timers.callLater(1.0, called.append, "old")
    clock.rightNow = -10.0
    new, dropped = (
        timers.callLater(1.0, called.append, "new"),
        timers.callLater(1.0, called.append, "dropped"),
    )
    dropped.cancel()
    assert new.getTime() == -9.0 and new in timers.getDelayedCalls()
    clock.advance(1)
    assert called == ["new"]
    clock.pump([10, 1])
    timers.callLater(1.0, called.append, "next")
    clock.advance(1)
    assert called == (["new", "next"] if cancelled == 1 else ["new", "old", "next"])
    assert clock.getDelayedCalls() == []


def test_the_clock_may_be_set_back_while_a_queue_is_empty_but_for_its_call(clock, timers):
    called = []
    for call in [timers.callLater(1.0, int) for _ in range(100)]:
        call.cancel()
    (queue,) = timers._queues.values()
    queue.compact()
    clock.rightNow = -10.0
    timers.callLater(1.0, called.append, "new")
    clock.advance(1)
    assert called == ["new"]


def test_a_function_may_start_and_cancel_timers_of_its_own_length(clock, timers):
    called = []

    def again():
        called.append(clock.seconds())
        other.cancel()
        timers.callLater(1.0, called.append, "second")

    timers.callLater(1.0, again)
    other = timers.callLater(1.0, called.append, "other")
    clock.advance(1)
    assert called == [1.0] and len(clock.getDelayedCalls()) == 1
    clock.advance(1)
    assert called == [1.0, "second"] and clock.getDelayedCalls() == []


def test_rests_of_deadlines_and_many_lengths_are_timers_of_the_reactor(clock, timers):
    for length in (0.0, 0.001, 1 / 3, 7.123456):
        timers.callLater(length, int)
    for length in range(1, 2 * MOST_LENGTHS):
        timers.callLater(length, int)
        timers.callLater(length, int)
    assert len(clock.getDelayedCalls()) == 4 + MOST_LENGTHS + 2 * (MOST_LENGTHS - 1)


def test_cancelled_timers_take_no_memory_for_long(timers):
    for kept in (timers.callLater(60.0, int), timers.callLater(60.0, int)):
        for _ in range(3000):
            timers.callLater(60.0, int).cancel()
            (queue,) = timers._queues.values()
            assert kept.active() and len(queue.waiting) < 100


@pytest.mark.parametrize("seed", range(20))
def test_every_timer_ends_as_one_of_twisteds(seed):
    chance, clocks = random.Random(seed), (Clock(), Clock())
    starts = TimerQueues(clocks[0]).callLater, clocks[1].callLater
    ends: tuple[list, list] = [], []
    calls: tuple[list, list] = [], []
    for number in range(300):
        act, length, chosen = chance.random(), chance.choice((0.5, 1.0, 2.0)), chance.randrange(number + 1)
        for mine, (start, clock) in enumerate(zip(starts, clocks, strict=True)):
            if act < 0.5 or chosen >= len(calls[mine]):
                calls[mine].append(start(length, ends[mine].append, number))
            elif act < 0.7 and calls[mine][chosen].active():
                calls[mine][chosen].cancel()
            elif act < 0.8 and calls[mine][chosen].active():
                calls[mine][chosen].reset(length + 0.25)
            else:
                clock.advance(0.125)
        assert [call.active() for call in calls[0]] == [call.active() for call in calls[1]]
    for clock in clocks:
        clock.advance(5)
    assert sorted(ends[0]) == sorted(ends[1])
