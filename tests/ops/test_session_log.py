"""The session log: the lines for sessions, and those left out."""

from types import MappingProxyType

import pytest
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from esxiproxy.core.config.access_log import SessionLogFilter
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.session.record import Record
from esxiproxy.ops.logs.session_log import MAX_REFUSAL_LINES, SessionLog


@pytest.fixture
def told():
    events = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def record(error, timeout=""):
    return Record(
        session="5e55101d",
        listener="secure",
        client=PeerAddress("192.0.2.77", 50123),
        principal="",
        target="/ticket/***",
        upstream="",
        status=503,
        close_code=None,
        ended_by="proxy",
        error=error,
        timeout=timeout,
        detail="all in use",
        octets_up=0,
        octets_down=0,
        phases=MappingProxyType({"closed": 0.25}),
    )


@pytest.mark.parametrize("error", ["LimitReached", "OutOfDescriptors"])
def test_a_flood_of_refusals_has_a_few_lines_a_second_and_the_rest_is_counted(told, error):
    clock = Clock()
    log = SessionLog(clock.seconds)
    for _ in range(1000):
        log.closed(record(error))
    assert len(told) == MAX_REFUSAL_LINES
    clock.advance(1)
    log.closed(record(error))
    assert told[-1]["more"] == f" ({1000 - MAX_REFUSAL_LINES} more refusals were not logged)"
    log.closed(record(error))
    assert told[-1]["more"] == ""


@pytest.mark.parametrize("timeout", ["head_timeout", "tls_handshake_timeout"])
def test_a_flood_of_silent_clients_has_a_few_lines_a_second(told, timeout):
    log = SessionLog(Clock().seconds)
    for _ in range(1000):
        log.closed(record("MalformedRequest", timeout))
    assert (
        len(told) == MAX_REFUSAL_LINES
        and f"timeout={timeout} ended by proxy MalformedRequest: " in told[0]["line"]
    )
    log.closed(record("MalformedRequest"))
    assert len(told) == MAX_REFUSAL_LINES + 1


def test_with_the_filter_errors_only_failures_have_a_line(told):
    log = SessionLog(Clock().seconds, SessionLogFilter.ERRORS)
    log.closed(record(""))
    assert not told
    log.closed(record("UpstreamRefused"))
    log.closed(record("LimitReached"))
    assert len(told) == 2
    log.filter = SessionLogFilter.ALL
    log.closed(record(""))
    assert len(told) == 3


def test_every_other_session_has_its_line(told):
    log = SessionLog(Clock().seconds)
    for _ in range(100):
        log.closed(record("UpstreamRefused"))
    assert len(told) == 100 and "UpstreamRefused: all in use" in told[0]["line"]
