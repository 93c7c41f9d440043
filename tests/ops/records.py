"""Records of two sessions, and a running access log."""

import contextlib
import json
from dataclasses import replace
from types import MappingProxyType

from esxiproxy.core.config.access_log import AccessLogConfig, AccessLogFormat
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.session.record import Kind, Record
from esxiproxy.ops.logs.access_log import AccessLog
from tests.support.reactor import FakeReactor

NOON = 1767268800.0  # 2026-01-01T12:00:00Z
RECORD = Record(
    session="5e55101d",
    listener="secure",
    client=PeerAddress("192.0.2.77", 50123),
    principal="anonymous",
    target="/ticket/***",
    upstream="esxi1",
    host="esxi1.example.com",
    status=101,
    close_code=1000,
    ended_by="client",
    error="",
    detail="",
    octets_up=123,
    octets_down=45678,
    phases=MappingProxyType({"authenticated": 0.001, "routed": 0.0015, "opened": 0.0515, "closed": 60.0}),
    round_trip=0.018,
)
PAGE = replace(
    RECORD,
    kind=Kind.HTTP,
    method="HEAD",
    target="/ui/?a=b",
    status=502,
    close_code=None,
    ended_by="proxy",
    error="UpstreamRefused",
    detail="192.0.2.10:443 refused the connection",
    phases=MappingProxyType({"closed": 0.25}),
)


@contextlib.contextmanager
def running(to, make_sink=None, form=AccessLogFormat.JSON):
    """Run an access log; its sink is made with its reactor, or by its target."""
    reactor = FakeReactor(NOON)
    log = AccessLog(
        AccessLogConfig(to, form), reactor, make_sink and (lambda: make_sink(reactor)), reactor.seconds
    )
    log.reactor = reactor
    log.startService()
    try:
        yield log
    finally:
        log.stopService()


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
