"""The connector: each failure has its SessionError, and a cancelled connection leaves nothing behind."""

import errno
from dataclasses import replace
from functools import partial

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectBindError,
    ConnectError,
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionRefusedError,
    NoRouteError,
    TimeoutError,
    UserError,
)
from twisted.internet.interfaces import IHostnameResolver, ITransport
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.core.errors import (
    OutOfDescriptors,
    UpstreamLost,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnresolved,
)
from esxiproxy.core.http.rewriting import ResponseRewriter
from esxiproxy.core.routing import Destination, Upstream
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.net.admission.slot import Slot
from esxiproxy.net.console.backend import Backend, BackendFactory, OpeningRequest
from esxiproxy.net.http.upstream import HttpUpstream
from esxiproxy.net.upstream import connector as connectors
from esxiproxy.net.upstream.candidates import Surroundings
from esxiproxy.net.upstream.connector import Connector
from esxiproxy.net.upstream.failover import connect_first

PLAIN = Upstream("esxi1", "192.0.2.10", 80, secure=False)
NAMED = Upstream("esxi1", "esxi1.example", 80, secure=False)
SECURE = Upstream("esxi1", "192.0.2.10", 443, secure=True, verify="insecure")
SIXTH = Upstream("esxi1", "2001:db8::10", 80, secure=False)
LIMITS = SessionLimits(connect_timeout=5.0, upstream_handshake_timeout=10.0)
HEADER = b"PROXY TCP4 198.51.100.7 127.0.0.1 40000 80\r\n"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


@implementer(ITransport)
class Connected:
    """A transport that records what is written and how it was closed."""

    def __init__(self, protocol):
        self.protocol = protocol
        self.written = b""
        self.aborted = self.lost = False

    def write(self, octets):
        self.written += octets

    def writeSequence(self, many):
        self.write(b"".join(many))

    def loseConnection(self):
        self.lost = True

    def loseWriteConnection(self):
        self.lost = True

    def abortConnection(self):
        self.aborted = True

    def registerProducer(self, producer, streaming):
        pass

    def unregisterProducer(self):
        pass

    def pauseProducing(self):
        pass

    def resumeProducing(self):
        pass

    def getPeer(self):
        return IPv4Address("TCP", "192.0.2.10", 80)

    def getHost(self):
        return IPv4Address("TCP", "127.0.0.1", 50000)


@implementer(IHostnameResolver)
class Names:
    """A resolver whose answers are given by the test."""

    def __init__(self):
        self.receivers = []

    def resolveHostName(self, receiver, name, *args, **kwargs):
        receiver.resolutionBegan(None)
        self.receivers.append(receiver)
        return receiver

    def answer(self, *hosts):
        receiver = self.receivers.pop()
        for host in hosts:
            receiver.addressResolved(IPv4Address("TCP", host, 80))
        receiver.resolutionComplete()


class Dial:
    """One call of ``Connector.connect`` on a reactor in memory."""

    def __init__(self, kind, upstream=PLAIN, header=b"", limits=LIMITS, clock=None):
        self.taken = self.given = 0
        self.reactor = MemoryReactorClock()
        self.names = self.reactor.nameResolver = Names()
        connector = Connector(self.reactor, clock=clock)
        if kind == "http":
            make = partial(HttpUpstream, Destination.of(upstream), limits, self.reactor, header)
        else:
            fields = ((b"Host", b"192.0.2.10"),)
            view = ResponseRewriter.of(upstream, b"192.0.2.10", False, b"proxy.example")
            opening = OpeningRequest(b"/ticket/abc", fields, KEY, offered=(), view=lambda: view)
            factory = BackendFactory(self.reactor)
            make = lambda _upstream, tls: Backend(opening, factory, tls)  # noqa: E731

        def attempt(candidate, seconds, may_send):
            self.taken += 1
            slot = Slot(self.release)
            return connector.connect(
                candidate.upstream, candidate.host, make, limits, header, slot, seconds, may_send
            )

        self.result = Deferred.fromCoroutine(
            connect_first(
                Destination.of(upstream), attempt, connector.names, clock or self.reactor,
                limits.upstream_handshake_timeout, Surroundings(), connector.health,
            )
        )  # fmt: skip
        self.outcomes = []
        self.result.addBoth(self.outcomes.append)

    def release(self):
        self.given += 1

    def failed(self, reason):
        """Fail the last connection attempt with this reason."""
        factory = self.reactor.tcpClients[-1][2]
        factory.clientConnectionFailed(self.reactor.connectors[-1], Failure(reason))

    def connected(self):
        """Establish the last connection, and return its transport."""
        protocol = self.reactor.tcpClients[-1][2].buildProtocol(IPv4Address("TCP", "192.0.2.10", 80))
        transport = Connected(protocol)
        protocol.makeConnection(transport)
        return transport

    def error(self, expected):
        """Check that the only outcome is this failure and that no timer is left; return the exception."""
        (outcome,) = self.outcomes
        assert isinstance(outcome, Failure) and outcome.check(expected), outcome
        assert not self.reactor.getDelayedCalls()
        return outcome.value


both = pytest.mark.parametrize("kind", ["http", "console"])

FAILURES = {
    "refused": (ConnectionRefusedError(), UpstreamRefused),
    "no route": (NoRouteError(), UpstreamRefused),
    "reset": (ConnectError(errno.ECONNRESET, "Connection reset by peer"), UpstreamLost),
    "ended and reset": (ConnectError(errno.EPIPE, "Broken pipe"), UpstreamLost),
    "timed out": (TimeoutError(), UpstreamTimeout),
    "EMFILE": (ConnectBindError(errno.EMFILE, "Too many open files"), OutOfDescriptors),
    "ENFILE": (ConnectBindError(errno.ENFILE, "Too many open files in system"), OutOfDescriptors),
    "no local port": (ConnectBindError(errno.EADDRNOTAVAIL, "no port"), UpstreamRefused),
}


@both
@pytest.mark.parametrize(("reason", "named"), FAILURES.values(), ids=FAILURES)
def test_a_failure_to_connect_has_its_name(kind, reason, named):
    dial = Dial(kind)
    dial.failed(reason)
    error = dial.error(named)
    assert type(error) is named and "/ticket" not in str(error) and dial.given == dial.taken


@both
@pytest.mark.parametrize(("upstream", "host"), [(PLAIN, "192.0.2.10"), (SIXTH, "2001:db8::10")])
def test_an_address_is_dialled_as_it_stands(kind, upstream, host):
    dial = Dial(kind, upstream)
    ((dialled, port, _factory, timeout, _bind),) = dial.reactor.tcpClients
    assert (dialled, port, timeout) == (host, 80, None) and not dial.names.receivers
    dial.reactor.advance(4.9)
    assert not dial.reactor.connectors[-1].stoppedConnecting
    dial.reactor.advance(0.2)
    assert dial.reactor.connectors[-1].stoppedConnecting, "5 s are over"
    dial.failed(UserError())
    assert dial.error(UpstreamTimeout).timeout == "connect_timeout" and dial.given == dial.taken


@both
@pytest.mark.parametrize("upstream", [PLAIN, NAMED])
def test_a_dial_measures_time_on_the_clock_of_the_proxy(kind, upstream):
    """The clock of the reactor may be set, which would delay its timers."""
    clock = Clock()
    dial = Dial(kind, upstream, clock=clock)
    if upstream is NAMED:
        dial.names.answer("192.0.2.1", "192.0.2.2")
        clock.advance(0.4)
        assert [client[0] for client in dial.reactor.tcpClients] == ["192.0.2.1", "192.0.2.2"]
    dial.reactor.advance(3600)
    assert not any(connector.stoppedConnecting for connector in dial.reactor.connectors)
    clock.advance(5.5)
    assert all(connector.stoppedConnecting for connector in dial.reactor.connectors)
    for connector, client in zip(dial.reactor.connectors, dial.reactor.tcpClients, strict=True):
        client[2].clientConnectionFailed(connector, Failure(UserError()))
    clock.advance(1)
    assert dial.error(UpstreamTimeout).timeout == "connect_timeout" and not clock.getDelayedCalls()


@both
def test_a_name_without_an_address_is_unresolved(kind):
    dial = Dial(kind, NAMED)
    dial.names.answer()
    dial.error(UpstreamUnresolved)
    assert not dial.reactor.tcpClients and dial.given == dial.taken


@both
def test_the_addresses_of_a_name_are_tried_in_turn(kind):
    dial = Dial(kind, NAMED)
    dial.names.answer("192.0.2.1", "192.0.2.2")
    dial.reactor.advance(0.1)
    dial.failed(ConnectionRefusedError())
    dial.reactor.advance(0.4)
    assert [client[0] for client in dial.reactor.tcpClients] == ["192.0.2.1", "192.0.2.2"]
    dial.failed(ConnectionRefusedError())
    dial.reactor.advance(1)
    dial.error(UpstreamRefused)


@both
@pytest.mark.parametrize("upstream", [PLAIN, NAMED])
def test_the_deadline_is_over_the_dial_and_over_the_look_up(kind, upstream):
    dial = Dial(kind, upstream)
    dial.reactor.advance(9.9)
    assert not dial.outcomes
    dial.reactor.advance(0.2)
    told = str(dial.error(UpstreamTimeout))
    assert "within 10 s" in told
    if upstream is PLAIN:
        assert ("opening handshake" in told) == (kind == "console")
    assert all(connector.stoppedConnecting for connector in dial.reactor.connectors)


def test_the_deadline_is_over_the_opening_handshake():
    dial = Dial("console")
    dial.reactor.advance(6)
    transport = dial.connected()
    assert transport.written.startswith(b"GET /ticket/abc HTTP/1.1\r\n")
    dial.reactor.advance(4.1)
    dial.error(UpstreamTimeout)
    assert transport.aborted


@both
def test_the_deadline_is_over_tls(kind):
    dial = Dial(kind, SECURE)
    transport = dial.connected()
    assert transport.written[:1] == b"\x16" and not dial.outcomes, "a ClientHello"
    dial.reactor.advance(10.1)
    assert ("opening handshake" in str(dial.error(UpstreamTimeout))) == (kind == "console")
    assert transport.aborted


def test_a_connection_for_http_is_open_with_tcp():
    dial = Dial("http")
    transport = dial.connected()
    (upstream,) = dial.outcomes
    assert upstream.transport is transport and not transport.written and dial.given == 0
    assert not dial.reactor.getDelayedCalls(), "its deadline was the dial's"


@both
def test_an_upstream_that_ends_the_connection_at_once_is_lost(kind):
    dial = Dial(kind)
    dial.connected().protocol.connectionLost(Failure(ConnectionDone()))
    if kind == "console":
        dial.error(UpstreamLost)
    else:
        assert dial.outcomes[0].lost


@both
@pytest.mark.parametrize("upstream", [PLAIN, NAMED])
def test_a_cancelled_dial_leaves_nothing(kind, upstream):
    dial = Dial(kind, upstream)
    dial.result.cancel()
    dial.error(CancelledError)
    assert all(connector.stoppedConnecting for connector in dial.reactor.connectors)
    if upstream is NAMED:
        dial.names.answer("192.0.2.1")
        dial.reactor.advance(1)
        assert not dial.reactor.tcpClients, "the answer comes too late"
    else:
        dial.failed(ConnectingCancelledError(IPv4Address("TCP", "192.0.2.10", 80)))
    assert len(dial.outcomes) == 1 and dial.given == dial.taken


@pytest.mark.parametrize(("kind", "upstream"), [("console", PLAIN), ("console", SECURE), ("http", SECURE)])
def test_a_cancelled_handshake_leaves_nothing(kind, upstream):
    dial = Dial(kind, upstream)
    transport = dial.connected()
    dial.result.cancel()
    dial.error(CancelledError)
    assert transport.aborted


@both
@pytest.mark.parametrize("upstream", [PLAIN, SECURE])
def test_a_proxy_header_goes_before_anything_else(kind, upstream):
    dial = Dial(kind, upstream, HEADER)
    transport = dial.connected()
    assert transport.written.startswith(HEADER)
    rest = transport.written[len(HEADER) :]
    assert HEADER not in rest
    if upstream is SECURE:
        assert rest[:1] == b"\x16", "the ClientHello"
    else:
        assert rest.startswith(b"" if kind == "http" else b"GET /ticket/abc HTTP/1.1\r\n")
    if not dial.outcomes:
        dial.result.cancel()


@both
def test_a_reactor_that_raises_fails_the_dial(kind, monkeypatch):
    def raises(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(MemoryReactorClock, "connectTCP", raises)
    dial = Dial(kind)
    dial.error(ZeroDivisionError)
    assert dial.given == dial.taken


@both
def test_a_resolver_that_raises_fails_the_dial(kind, monkeypatch):
    def raises(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(Names, "resolveHostName", raises)
    dial = Dial(kind, NAMED)
    dial.reactor.advance(0)
    assert "esxi1.example" in str(dial.error(UpstreamUnresolved)) and dial.given == dial.taken


def test_an_error_that_is_not_of_the_network_is_not_translated():
    dial = Dial("http")
    dial.failed(ZeroDivisionError())
    dial.error(ZeroDivisionError)


def test_upstreams_that_a_router_makes_up_fill_no_memory(monkeypatch):
    """Upstreams of the configuration are kept, and of the others the most recently used."""
    monkeypatch.setattr(connectors, "_REMEMBERED", 8)
    connector = Connector(MemoryReactorClock())
    made_up = [replace(SECURE, name=f"vm{number}", host=f"vm{number}.example") for number in range(32)]
    connector.prepare(SECURE)
    own = connector._tls_of(SECURE)
    often = connector._tls_of(made_up[0])
    for upstream in made_up:
        assert connector._tls_of(upstream) is connector._tls_of(upstream)
        assert connector._tls_of(made_up[0]) is often
    assert [key[0] for key in connector._tls] == [*(f"vm{number}" for number in range(25, 32)), "vm0"]
    assert connector._tls_of(SECURE) is own and connector._tls_of(made_up[1]) is not None
    assert len(connector._tls) == 8


def test_a_made_up_upstream_with_the_name_of_a_configured_one_does_not_take_its_place():
    connector = Connector(MemoryReactorClock())
    connector.prepare(SECURE)
    own, other = connector._tls_of(SECURE), replace(SECURE, host="192.0.2.11")
    assert connector._tls_of(other).upstream == other and connector._tls_of(SECURE) is own
