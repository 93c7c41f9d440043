"""Metrics of running consoles, of refusals and of the event loop."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from esxiproxy.core.errors import (
    LimitReached,
    OutOfDescriptors,
)
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.ops.metrics.running_count import COUNT_INTERVAL, MAX_AT_ONCE, RunningCount
from esxiproxy.ops.process.loop_lag import LoopLag
from esxiproxy.proxy import Proxy
from tests.ops.metrics_world import (
    end,
    live,
    new_session,
    opened_session,
    total,
)


def test_bytes_of_a_running_console_are_counted_once(observer, shown):
    session = opened_session(1, observer)
    session.round_trip = 0.25
    up, down = (f"bytes_total{{direction={way},listener=secure,upstream=esxi1}}" for way in ("up", "down"))
    observer.count_running([live(session, 100, 1000)])
    observer.count_running([live(session, 100, 1000)])
    assert (shown()[up], shown()[down]) == (100, 1000)
    session.round_trip = 0.5
    observer.count_running([live(session, 150, 1000)])
    assert (shown()[up], shown()[down]) == (150, 1000)
    end(session, observer, up=160, down=4000)
    assert (shown()[up], shown()[down]) == (160, 4000)
    assert shown()["round_trip_seconds_count{listener=secure}"] == 2
    assert shown()["round_trip_seconds_sum{listener=secure}"] == 0.75


def test_bytes_are_counted_at_the_end_if_not_before(observer):
    end(opened_session(1, observer), observer, up=160, down=4000)
    assert total(observer.metrics, "bytes_total", "direction") == {"up": 160, "down": 4000}


def test_sessions_that_are_not_open_are_not_looked_at(observer):
    session = new_session(1)
    observer.count_running([live(session, 100, 1000)])
    assert total(observer.metrics, "bytes_total") == 0


def test_running_consoles_are_counted_only_while_watched(observer):
    clock, looked = Clock(), []

    def sessions():
        looked.append(clock.seconds())
        return []

    count = RunningCount(observer, sessions, clock)
    count.startService()
    clock.pump([COUNT_INTERVAL] * 3)
    assert looked == [] and clock.getDelayedCalls() == []
    count.watch(True)
    count.watch(True)
    clock.pump([COUNT_INTERVAL] * 2)
    assert looked == [3, 4, 5]
    count.watch(False)
    clock.pump([COUNT_INTERVAL] * 3)
    assert looked == [3, 4, 5] and clock.getDelayedCalls() == []
    count.watch(True)
    count.stopService()
    assert clock.getDelayedCalls() == []


def test_many_consoles_are_counted_in_several_turns(observer, monkeypatch):
    clock, number, turns = Clock(), 2 * MAX_AT_ONCE + 1, []
    running = [live(opened_session(each, observer), 10, 0) for each in range(number)]
    real = observer.count_running
    monkeypatch.setattr(observer, "count_running", lambda some: (turns.append(len(some)), real(some)))
    count = RunningCount(observer, lambda: running, clock)
    count.startService()
    count.watch(True)
    assert turns == [MAX_AT_ONCE]  # the others wait for the next turns
    end(running[-1].session, observer, up=10)
    clock.advance(0)
    assert turns == [MAX_AT_ONCE, MAX_AT_ONCE, 1]
    assert total(observer.metrics, "bytes_total") == 10 * number
    count.stopService()
    assert clock.getDelayedCalls() == []


def test_a_count_that_fails_is_logged_and_repeated(observer):
    clock, looked = Clock(), []

    def sessions():
        looked.append(None)
        raise OSError("disk full")

    count = RunningCount(observer, sessions, clock)
    count.startService()
    with capturedLogs() as events:
        count.watch(True)
        clock.advance(COUNT_INTERVAL)
    assert len(looked) == 2 and len(events) == 2
    assert "could not be counted" in events[0]["log_format"]
    count.stopService()


# Refusals and the event loop


def test_refusals_are_counted_by_limit(observer):
    proxy = Proxy(Clock(), [observer, RefusalBlind()], has_descriptors=lambda dials: False)
    limits = ConnectionLimits(max_handshakes=1)
    proxy.admission.take_handshake_slot("secure", limits)
    for _ in range(2):
        with pytest.raises(LimitReached):
            proxy.admission.take_handshake_slot("secure", limits)
    refused = Deferred.fromCoroutine(proxy.admission.take_arrival_slots(new_session(1), limits))
    refused.addErrback(lambda failure: failure.trap(OutOfDescriptors))
    assert refused.called
    assert total(observer.metrics, "refusals_total", "limit") == {"max_handshakes": 2, "descriptors": 1}
    assert proxy.admission.refusals == {"max_handshakes": 2, "descriptors": 1}


class RefusalBlind:
    """An observer without the method ``refused``."""


def test_the_lag_of_the_event_loop_is_observed(observer, shown):
    clock = Clock()
    lag = LoopLag(clock, observer.lagged)
    lag.startService()
    clock.advance(0.05)
    clock.advance(0.45)
    lag.stopService()
    found = shown()
    assert found["event_loop_lag_seconds_count"] == 2
    assert found["event_loop_lag_seconds_sum"] == pytest.approx(0.4)
