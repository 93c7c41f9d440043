"""The metrics of one process equal the sessions that it had."""

import pytest
from zope.interface.verify import verifyObject

from esxiproxy.core.errors import (
    AccessDenied,
    Killed,
    MalformedRequest,
    ProxyLost,
    SessionError,
    StallTimeout,
    TLSHandshakeFailed,
    UpstreamRefused,
)
from esxiproxy.core.routing import Route
from esxiproxy.core.session.entry import entry_of
from esxiproxy.core.session.lost_record import lost_record
from esxiproxy.core.session.record import Kind
from esxiproxy.interfaces import ISessionObserver
from esxiproxy.ops.metrics.metrics import Metrics
from esxiproxy.ops.metrics.observer import MetricsObserver
from tests.ops.metrics_world import (
    UPSTREAM,
    Time,
    end,
    failed,
    listed,
    new_session,
    opened_session,
    total,
    unlisted,
)


def test_it_is_a_session_observer(observer):
    assert verifyObject(ISessionObserver, observer)


def test_consoles_that_were_opened_are_open_or_have_ended(observer, shown):
    sessions = [opened_session(number, observer) for number in range(5)]
    assert shown()["sessions_open{host=esxi1,listener=secure,upstream=esxi1}"] == 5
    end(sessions[0], observer)
    end(sessions[1], observer, Killed("maintenance"))
    end(sessions[2], observer, code=1001)
    found = shown()
    assert found["sessions_opened_total{listener=secure,upstream=esxi1}"] == 5
    assert found["sessions_open{host=esxi1,listener=secure,upstream=esxi1}"] == 2
    assert total(observer.metrics, "sessions_closed_total", "reason") == {
        "normal": 1,
        "Killed": 1,
        "going_away": 1,
    }


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, "normal"),
        (1001, "going_away"),
        (None, "no_code"),
        (1011, "error_code"),
        (2999, "error_code"),
        (3000, "application_code"),
        (4999, "application_code"),
    ],
)
def test_the_reason_of_a_regular_end_is_the_class_of_its_code(observer, code, reason):
    end(opened_session(1, observer), observer, code=code)
    assert total(observer.metrics, "sessions_closed_total", "reason") == {reason: 1}


def test_an_end_is_counted_once_and_only_if_the_opening_was(observer):
    session = opened_session(1, observer)
    end(session, observer)
    observer.closed(session.record())
    stranger = opened_session(2, MetricsObserver(Metrics()))
    end(stranger, observer)
    assert total(observer.metrics, "sessions_closed_total") == 1
    assert total(observer.metrics, "sessions_open") == 0
    assert total(observer.metrics, "handshakes_failed_total") == 0


def test_consoles_of_another_proxy_that_died_are_counted_apart(observer, shown):
    for number in range(2):
        entry = entry_of(opened_session(number, MetricsObserver(Metrics())), "holder", 5.0, "proxy-b")
        observer.closed(lost_record(entry, ProxyLost("the proxy on proxy-b died"), 9.0, "proxy-b"))
    assert total(observer.metrics, "sessions_lost_total") == 2
    assert not any(
        value for name, value in shown().items() if name.startswith(("sessions_open", "sessions_cl"))
    )


def test_failed_handshakes_are_counted_by_failure_and_host(observer, shown):
    failed(1, observer, AccessDenied("no"))
    failed(2, observer, UpstreamRefused("no"), listed("esxi7"))
    failed(3, observer, UpstreamRefused("no"), unlisted("esxi8"))
    found = shown()
    assert found["handshakes_failed_total{host=,listener=secure,reason=AccessDenied,upstream=}"] == 1
    assert (
        found["handshakes_failed_total{host=esxi7,listener=secure,reason=UpstreamRefused,upstream=esxi1}"]
        == 1
    )
    assert (
        found["handshakes_failed_total{host=other,listener=secure,reason=UpstreamRefused,upstream=esxi1}"]
        == 1
    )
    assert total(observer.metrics, "sessions_opened_total") == 0


def test_the_phases_of_a_handshake_are_durations(observer, shown):
    clock = Time()
    session = new_session(1, seconds=clock.seconds)
    for step, seconds in (("authenticated", 0.25), ("routed", 0.5), ("opened", 2)):
        clock.now += seconds
        session.mark(step)
    session.status = 101
    session.route = Route.to(UPSTREAM)
    observer.opened(session)
    end(session, observer)
    found = shown()
    for step, seconds in (("authenticated", 0.25), ("routed", 0.5), ("opened", 2)):
        labels = f"listener=secure,phase={step},upstream=esxi1"
        assert found[f"handshake_seconds_sum{{{labels}}}"] == seconds
        assert found[f"handshake_seconds_count{{{labels}}}"] == 1


def test_a_failed_handshake_has_the_phases_that_it_reached(observer):
    failed(1, observer, UpstreamRefused("no"), listed("esxi7"))
    assert total(observer.metrics, "handshake_seconds_count", "phase") == {"authenticated": 1, "routed": 1}


def test_plain_requests_are_counted_by_the_class_of_their_status(observer, shown):
    for number, status in enumerate((200, 204, 304, 404, 499, 502, 0)):
        session = new_session(number, kind=Kind.HTTP)
        session.routed(Route.to(UPSTREAM))
        if status in (200, 204):
            session.answered(status)
        session.status = status
        end(session, observer, up=10, down=100)
    assert total(observer.metrics, "http_requests_total", "code") == {
        "2xx": 2,
        "3xx": 1,
        "4xx": 2,
        "5xx": 1,
        "none": 1,
    }
    found = shown()
    assert found["http_response_seconds_count{listener=secure,upstream=esxi1}"] == 2
    assert found["bytes_total{direction=up,listener=secure,upstream=esxi1}"] == 70
    assert found["bytes_total{direction=down,listener=secure,upstream=esxi1}"] == 700


def test_a_failed_tls_handshake_is_no_request(observer, shown):
    session = new_session(1, kind=Kind.HTTP)
    end(session, observer, TLSHandshakeFailed("http request"))
    assert shown()["tls_handshakes_failed_total{listener=secure}"] == 1
    assert total(observer.metrics, "http_requests_total") == 0


def test_a_head_that_cannot_be_read_is_a_request(observer):
    session = new_session(1, kind=Kind.HTTP)
    session.status = 400
    end(session, observer, MalformedRequest("no"))
    assert total(observer.metrics, "http_requests_total", "code") == {"4xx": 1}


def test_stalls_are_counted(observer, shown):
    end(opened_session(1, observer), observer, StallTimeout("slow", timeout="stall_timeout"))
    end(opened_session(2, observer), observer)
    session = new_session(3, kind=Kind.HTTP)
    end(session, observer, SessionError("slow", timeout="stall_timeout"))
    found = shown()
    assert found["stalls_total{listener=secure,upstream=esxi1}"] == 1
    assert found["stalls_total{listener=secure,upstream=}"] == 1
