"""The session log: the lines for sessions, and those left out."""

from dataclasses import replace

import pytest
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from esxiproxy.core.config.access_log import SessionLogFilter
from esxiproxy.ops.logs.session_log import MAX_REFUSAL_LINES, SessionLog
from tests.ops.records import RECORD


@pytest.fixture
def events():
    found = []
    globalLogPublisher.addObserver(found.append)
    yield found
    globalLogPublisher.removeObserver(found.append)


def record(error, timeout=""):
    refused = replace(RECORD, status=503, close_code=None, ended_by="proxy", detail="all in use")
    return replace(refused, error=error, timeout=timeout)


@pytest.mark.parametrize("error", ["LimitReached", "OutOfDescriptors"])
def test_a_flood_of_refusals_has_a_few_lines_a_second_and_the_rest_is_counted(events, error):
    clock = Clock()
    log = SessionLog(clock.seconds)
    for _ in range(1000):
        log.closed(record(error))
    assert len(events) == MAX_REFUSAL_LINES
    clock.advance(1)
    log.closed(record(error))
    assert events[-1]["more"] == f" ({1000 - MAX_REFUSAL_LINES} more refusals were not logged)"
    log.closed(record(error))
    assert events[-1]["more"] == ""


@pytest.mark.parametrize("timeout", ["head_timeout", "tls_handshake_timeout"])
def test_a_flood_of_silent_clients_has_a_few_lines_a_second(events, timeout):
    log = SessionLog(Clock().seconds)
    for _ in range(1000):
        log.closed(record("MalformedRequest", timeout))
    assert (
        len(events) == MAX_REFUSAL_LINES
        and f"timeout={timeout} ended by proxy MalformedRequest: " in events[0]["line"]
    )
    log.closed(record("MalformedRequest"))
    assert len(events) == MAX_REFUSAL_LINES + 1


def test_with_the_filter_errors_only_failures_have_a_line(events):
    log = SessionLog(Clock().seconds, SessionLogFilter.ERRORS)
    log.closed(record(""))
    assert not events
    log.closed(record("UpstreamRefused"))
    log.closed(record("LimitReached"))
    assert len(events) == 2
    log.filter = SessionLogFilter.ALL
    log.closed(record(""))
    assert len(events) == 3


def test_every_other_session_has_its_line(events):
    log = SessionLog(Clock().seconds)
    for _ in range(100):
        log.closed(record("UpstreamRefused"))
    assert len(events) == 100 and "UpstreamRefused: all in use" in events[0]["line"]
