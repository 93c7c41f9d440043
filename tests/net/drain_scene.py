"""Processes that share a state, each an embedded proxy whose clients and hosts are in memory."""

from __future__ import annotations

from functools import partial

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.task import Clock

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.routing import Route
from esxiproxy.core.session.drain import DrainKind
from esxiproxy.proxy import Proxy
from esxiproxy.state.memory import Memory, MemoryState
from tests.net.memory import Wire
from tests.net.scene import UPSTREAM, MemoryConnector, Recorder, opening
from tests.support.outcome import result
from tests.support.websocket import accepting_fields, head_bytes, take_frames

HERE = ProcessIdentity("proxy1", "run-1")
DAY = 1_700_000_000.0
"""The time of day at which the clock of a test begins."""


class Names:
    """A resolver of the names in ``known``."""

    def __init__(self):
        self.known = {}
        self.asked = []

    def look_up(self, host):
        self.asked.append(host)
        found = self.known.get(host)
        if not found:
            return fail(DNSLookupError(host))
        return succeed(tuple(IPv4Address("TCP", address, 0) for address in found))


class Hosts(MemoryConnector):
    """A connector to hosts in memory, by their addresses; those in ``silent`` never accept.

    While it ``is_slow``, connections are made when the test calls ``dial_all``.
    """

    def __init__(self, process):
        super().__init__(process)
        self.names = Names()
        self.dialled_hosts = []
        self.silent = set()
        self.is_slow = False
        self.dialling = []

    def connect(self, upstream, host, make, limits, proxy_header=b"", slot=None, seconds=None, may_send=None):
        self.dialled_hosts.append(host)
        if host in self.silent:
            waiting = Deferred(lambda _: slot.release())
            return waiting.addTimeout(seconds, self.scene.clock)
        make_here = partial(self._made, make, may_send)
        return super().connect(upstream, host, make_here, limits, proxy_header, slot, seconds, may_send)

    def _made(self, make, may_send, upstream, tls):
        protocol = make(upstream, tls)
        if may_send is not None:
            protocol.may_send = may_send
        return protocol

    def dialled(self, protocol):
        self.dialling.append(protocol)
        if not self.is_slow:
            self.dial_all()

    def dial_all(self):
        dialling, self.dialling = self.dialling, []
        self.scene.hosts.extend(Wire(protocol) for protocol in dialling)


class Routes:
    """A router whose answer a test sets."""

    upgrades_only = False

    def __init__(self, route):
        self.answer = route
        self.asked = 0

    def route(self, request, principal):
        self.asked += 1
        return self.answer if isinstance(self.answer, Deferred) else succeed(self.answer)


class World:
    """The clock and the memory that processes share."""

    def __init__(self):
        self.clock = Clock()
        self.memory = Memory(self.time_of_day)

    def time_of_day(self):
        return DAY + self.clock.seconds()

    def process(self, identity=HERE, state=None, **more):
        return Process(self, identity, state or MemoryState(self.clock, self.memory), **more)


class Process:
    """One process: a proxy with one listener, named ``one``."""

    def __init__(self, world, identity, state, route=None, policy=None, connection_limits=None, starts=True):
        self.world, self.clock, self.state = world, world.clock, state
        self.recorder = Recorder()
        self.proxy = Proxy(
            self.clock,
            [self.recorder],
            state=state,
            identity=identity,
            connection_limits=connection_limits,
        )
        drains = self.proxy.drains
        drains._time_of_day = drains._table._time_of_day = world.time_of_day
        self.connector = self.proxy._connector = Hosts(self)
        self.router = Routes(route or Route.to(UPSTREAM))
        self.hosts, self.clients = [], []
        self.listeners = {"one": self.proxy.listener("one", self.router, policy=policy)}
        if starts:
            self.proxy.startService()

    def listener(self, name, **more):
        self.listeners[name] = self.proxy.listener(name, self.router, **more)

    # Clients

    def send(self, octets, listener="one"):
        """Send a request on a new connection, and return the connection."""
        client = Wire(self.listeners[listener].buildProtocol(None))
        self.clients.append(client)
        client.send(octets)
        self.pump()
        return client

    def begin(self, listener="one", *fields):
        """Send an opening handshake."""
        return self.send(opening(b"/ticket/abc", *fields), listener)

    def accept(self, host=None):
        """Let a host accept, by default the last one that was dialled."""
        host = host or self.hosts[-1]
        head = host.received.partition(b"\r\n\r\n")[0].split(b"\r\n")
        key = dict(line.split(b": ", 1) for line in head[1:])[b"Sec-WebSocket-Key"]
        host.send(head_bytes("HTTP/1.1 101 Switching Protocols", accepting_fields(key.decode(), "binary")))
        self.pump()

    def open(self, listener="one"):
        """Open a console, and return the client's connection."""
        before = len(self.hosts)
        client = self.begin(listener)
        assert len(self.hosts) == before + 1, client.received
        self.accept()
        assert client.received.startswith(b"HTTP/1.1 101 "), client.received
        client.received = b""
        return client

    def pump(self):
        """Deliver all bytes that can be delivered."""
        while any(wire.pump() for wire in (*self.clients, *self.hosts)):
            pass

    def advance(self, seconds):
        """Advance the clock in small steps, and deliver all bytes after each."""
        for _ in range(max(1, round(seconds * 10))):
            self.clock.advance(0.1)
            self.pump()

    # Drains

    def drain(self, kind, name="", **more):
        """Drain in this process, and return the drains, or raise."""
        return result(self.proxy.drains.drain(DrainKind(kind), name, **more))

    def undrain(self, kind, name="", **more):
        return result(self.proxy.drains.undrain(DrainKind(kind), name, **more))

    def stop(self):
        """Stop the process, with its consoles."""
        self.proxy.stopService()
        self.proxy.abort()
        self.pump()
        self.advance(1.2)


class BrokenState(MemoryState):
    """A state in memory that can be unreachable, or answer late."""

    def __init__(self, clock, memory=None):
        super().__init__(clock, memory)
        self.is_broken = False
        self.late = None
        """A Deferred that a read of items waits for."""

    def items(self, space, after, most):
        if self.is_broken:
            return fail(StateUnavailable("the disk is gone"))
        if self.late is not None:
            return self.late.addCallback(lambda _: MemoryState.items(self, space, after, most))
        return super().items(space, after, most)

    def put(self, *args, **kwargs):
        if self.is_broken:
            return fail(StateUnavailable("the disk is gone"))
        return super().put(*args, **kwargs)


def closes_of(wire):
    """Return the payloads of the Closes that a client has received."""
    return [taken.payload for taken in take_frames(bytearray(wire.received)) if taken.opcode == 8]
