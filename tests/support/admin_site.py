"""An address of the admin service over connections in memory, with handlers that a test makes."""

import json
import socket
from dataclasses import dataclass, field

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from esxiproxy.admin.access import ListenAccess, SocketAccess
from esxiproxy.admin.audit import AuditLog
from esxiproxy.admin.control import ReloadOutcome
from esxiproxy.admin.dispatch import Dispatcher
from esxiproxy.admin.factory import AdminFactory
from esxiproxy.admin.openapi.operations import OPERATIONS
from esxiproxy.admin.probes import ProbeAnswers
from esxiproxy.admin.site import Root
from esxiproxy.core.config.admin import LOOPBACK_NAMES
from esxiproxy.core.config.model import Admin
from esxiproxy.state.memory import MemoryState

ACTION = (("X-Esxiproxy", "1"), ("Content-Type", "application/json"))
"""The fields of an action with a body."""
CLIENT = IPv4Address("TCP", "192.0.2.7", 4000)


class StandInControl:
    """A stand-in for the process that runs the proxy."""

    def __init__(self, clock, config=None):
        self.machine, self.run, self.started = "one", "run-1", 1000.0
        self.state = MemoryState(clock)
        self.config = config
        self.reasons = []
        self.alive = True
        self.outcome = ReloadOutcome(True)
        self.problems = []

    def in_thread(self, call, *arguments):
        return succeed(call(*arguments))

    def reload(self):
        return succeed(self.outcome)

    def check(self):
        return succeed(self.problems)

    def unready(self):
        return succeed(self.reasons)

    def is_alive(self):
        return self.alive


class UnixTransport(StringTransport):
    """A transport whose socket is one end of a pair, so that the kernel knows the other end's user."""

    def __init__(self):
        super().__init__()
        self._pair = socket.socketpair()

    def getHandle(self):
        return self._pair[0]


@dataclass
class Answer:
    """An answer that was received."""

    status: int
    fields: dict
    body: bytes

    @property
    def value(self):
        return json.loads(self.body)


@dataclass
class Calls:
    """Handlers that note their calls and return a value that a test sets."""

    seen: list = field(default_factory=list)
    answers: dict = field(default_factory=dict)

    def handlers(self):
        return {operation.name: self._handler(operation.name) for operation in OPERATIONS}

    def _handler(self, name):
        async def handle(call):
            self.seen.append((name, call))
            answer = self.answers.get(name, {})
            if isinstance(answer, Exception):
                raise answer
            return await answer() if answer is Deferred else answer

        return handle


class AdminAddress:
    """One address of the admin service: ``kind`` is socket, listen or probe."""

    def __init__(
        self,
        kind="listen",
        admin=None,
        authenticate=None,
        audit=None,
        streams=None,
        files=None,
        prechecks=None,
    ):
        self.clock = Clock()
        self.control = StandInControl(self.clock)
        self.calls = Calls()
        admin = admin or Admin(None, names=frozenset(LOOPBACK_NAMES))
        access = SocketAccess() if kind == "socket" else ListenAccess(admin, authenticate)
        self.is_socket = kind == "socket"

        def in_thread(call, *arguments):
            try:
                return succeed(call(*arguments))
            except OSError as error:
                return fail(error)

        self.audit = AuditLog(audit, in_thread, self.clock, time_of_day=lambda: 5.0)
        self.metrics = ("text/plain; version=0.0.4", b"esxiproxy_sessions_open 0\n")

        def metrics(accept):
            return succeed(self.metrics)

        probes = ProbeAnswers(self.control, metrics, self.clock)
        if kind == "probe":
            self.root = Root(probes)
        else:
            dispatcher = Dispatcher(self.calls.handlers(), access, self.audit, prechecks or {})
            self.root = Root(probes, dispatcher, files, streams, self.clock)
        self.factory = AdminFactory(self.clock)
        self.factory.serve(self.root)
        self.factory.doStart()

    def connect(self):
        """Return a connection's protocol and its transport."""
        protocol = self.factory.buildProtocol(CLIENT)
        transport = UnixTransport() if self.is_socket else StringTransport(peerAddress=CLIENT)
        protocol.makeConnection(transport)
        return protocol, transport

    def raw(self, octets):
        """Return everything that a connection sends after these bytes."""
        protocol, transport = self.connect()
        protocol.dataReceived(octets)
        self.clock.advance(0)
        return transport.value()

    def request(self, method, target, fields=(), body=None, host="127.0.0.1:9180"):
        """Return the answer to a request; ``body`` is bytes or a value for JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields]
        if host is not None:
            lines.append(f"Host: {host}")
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        return parse(self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")))


def parse(octets):
    """Return the answer in these bytes."""
    head, _, body = octets.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), {name.lower(): value for name, value in fields.items()}, body)
