"""Active checks of addresses: one process of all makes them, and the others read the results."""

from dataclasses import replace

import pytest
from twisted.internet.defer import fail
from twisted.internet.task import Clock

from esxiproxy.core.errors import UpstreamRefused
from esxiproxy.core.routing import TCPAddress, Upstream
from esxiproxy.net.upstream.health import Health
from esxiproxy.net.upstream.health_checks import HealthChecks, Probe, check_of
from esxiproxy.state.memory import Memory, MemoryState

ONE, TWO = "192.0.2.1", "192.0.2.2"
PAIR = Upstream("esxi", ONE, 80, secure=False, further=(TCPAddress(TWO, 80),))


class Connector:
    """A connector whose hosts are up or down as the test says."""

    def __init__(self, clock):
        self.health = Health(clock)
        self.names = None
        self.down = set()
        self.checked = []

    def connect(self, upstream, host, make, limits):
        self.checked.append(host)
        if host in self.down:
            return fail(UpstreamRefused("refused"))
        probe = make(upstream, None)
        opened = probe.opened
        probe.makeConnection(Transport())
        return opened


class Transport:
    written = b""
    aborted = False

    def write(self, octets):
        self.written += octets

    def abortConnection(self):
        self.aborted = True


class World:
    """Processes that share a state."""

    def __init__(self, processes=1, upstreams=(PAIR,)):
        self.clock = Clock()
        memory = Memory(self.clock.seconds)
        self.connectors = [Connector(self.clock) for _ in range(processes)]
        self.checks = []
        for connector in self.connectors:
            checks = HealthChecks(
                MemoryState(self.clock, memory), self.clock, lambda c=connector: c, self.clock.seconds
            )
            checks.use(upstreams)
            checks.startService()
            self.checks.append(checks)

    def down(self, number=0):
        health = self.connectors[number].health
        return [host for host in (ONE, TWO) if health.is_down((host, 80))]


def test_an_address_that_fails_is_down_until_it_passes():
    world = World()
    (connector,) = world.connectors
    connector.down = {ONE}
    world.clock.advance(0)
    assert connector.checked == [ONE, TWO] and world.down() == [ONE]
    connector.down = set()
    world.clock.advance(11.1)
    assert world.down() == []


def test_it_is_checked_every_10_s():
    world = World()
    world.clock.advance(0)
    world.clock.advance(8.9)
    assert world.connectors[0].checked == [ONE, TWO]
    world.clock.advance(2.2)
    assert world.connectors[0].checked == [ONE, TWO] * 2


def test_one_process_checks_and_all_know():
    world = World(processes=3)
    for connector in world.connectors:
        connector.down = {TWO}
    world.clock.advance(0)
    world.clock.advance(11.1)
    assert sorted(len(connector.checked) for connector in world.connectors) == [0, 0, 4]
    assert [world.down(number) for number in range(3)] == [[TWO]] * 3


def test_a_service_that_stops_leaves_no_timer():
    world = World()
    world.clock.advance(0)
    world.checks[0].stopService()
    assert not [call for call in world.clock.getDelayedCalls() if "health" in str(call.func)]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "tcp"),
        ({"secure": True}, "tls"),
        ({"further": ()}, "off"),
        ({"further": (), "health_check": "/healthz"}, "/healthz"),
        ({"health_check": "off"}, "off"),
    ],
)
def test_several_addresses_are_checked_by_default(changed, expected):
    assert check_of(replace(PAIR, **changed)) == expected


def probed(answer, *, lost=False):
    """Return the outcome of a check by status, and what was sent."""
    probe = Probe(PAIR, "/healthz", None)
    outcomes = []
    probe.opened.addCallbacks(lambda _: outcomes.append(True), lambda f: outcomes.append(str(f.value)))
    transport = Transport()
    probe.makeConnection(transport)
    assert transport.written == b"GET /healthz HTTP/1.1\r\nHost: 192.0.2.1\r\nConnection: close\r\n\r\n"
    for octet in answer:
        probe.dataReceived(bytes([octet]))
    if lost:
        probe.connectionLost()
    return outcomes, transport.aborted


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.0 399 \r\n", True),
        (b"HTTP/1.1 102 \r\n", None),
        (b"HTTP/1.1 503 Service Unavailable\r\n", "the health check was answered with 503"),
        (b"x" * 4096, "the health check has no HTTP answer"),
    ],
)
def test_a_status_below_400_passes(answer, expected):
    outcomes, aborted = probed(answer)
    assert outcomes == ([] if expected is None else [expected]) and aborted == (expected is not None)


def test_a_connection_that_ends_early_fails():
    outcomes, _aborted = probed(b"HTTP/1.1 2", lost=True)
    assert outcomes == ["the connection ended during the health check"]


def test_an_upstream_that_is_no_longer_checked_is_not_down():
    world = World()
    world.connectors[0].down = {ONE}
    world.clock.advance(0)
    assert world.down() == [ONE]
    world.checks[0].use([replace(PAIR, health_check="off")])
    world.clock.advance(60)
    assert world.down() == []
