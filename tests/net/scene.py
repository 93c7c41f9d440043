"""A whole session in memory: a client, the two legs, an upstream, and a fake clock."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from esxiproxy.core.routing import Principal, Route, Upstream
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.net.admission.admission import Admission
from esxiproxy.net.listener.factory import ListenerFactory
from esxiproxy.net.sessions import Sessions
from esxiproxy.net.upstream.decision import Plugin
from esxiproxy.net.upstream.gateway import Gateway
from esxiproxy.net.upstream.health import Health
from esxiproxy.state.memory import MemoryState
from tests.net.memory import Wire
from tests.support import websocket
from tests.support.websocket import accepting_fields, close_payload, frame, head_bytes, take_frames

KEY = websocket.KEY.encode()
UPSTREAM = Upstream("esxi1", "192.0.2.10", 80, secure=False)


def opening(target=b"/ticket/abc", *fields, protocol=b"binary"):
    """Return a browser's opening handshake."""
    lines = [
        b"GET " + target + b" HTTP/1.1",
        b"Host: proxy.example:81",
        b"Connection: keep-alive, Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + KEY,
        *([b"Sec-WebSocket-Protocol: " + protocol] if protocol else []),
        *fields,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


close = close_payload


def up(opcode, payload=b"", **kwargs):
    """Return a masked frame, as a client sends it."""
    return frame(opcode, payload, mask=b"\x01\x02\x03\x04", **kwargs)


def frames(octets):
    """Return the complete frames in ``octets``, unmasked, as (fin, opcode, payload)."""
    return [(taken.fin, taken.opcode, taken.payload) for taken in take_frames(bytearray(octets))]


class MemoryConnector:
    """A connector to wires in memory."""

    def __init__(self, scene):
        self.scene = scene
        self.dials = 0
        self.cancelled = 0
        self.failure = None
        self.names = None
        self.health = Health(scene.clock)
        self.headers = []

    def connect(self, upstream, host, make, limits, proxy_header=b"", slot=None, seconds=None, may_send=None):
        self.dials += 1
        self.headers.append(proxy_header)
        if self.failure is not None:
            return _failed(self.failure)
        protocol = make(upstream, None)
        protocol.slot = slot
        result = Deferred(lambda _: self._cancel(protocol))
        protocol.opened.addBoth(lambda outcome: None if result.called else result.callback(outcome))
        self.dialled(protocol)
        return result

    def dialled(self, backend):
        self.scene.backend = backend
        self.scene.host = Wire(backend)

    def _cancel(self, backend):
        self.cancelled += 1
        backend.opened.cancel()


def _failed(error):
    deferred = Deferred()
    deferred.errback(Failure(error))
    return deferred


class Anybody:
    def __init__(self):
        self.answer = succeed(Principal("anybody"))

    def authenticate(self, request):
        return self.answer


class Fixed:
    def __init__(self, upstream):
        self.upstream = upstream

    async def route(self, request, principal):
        if isinstance(self.upstream, BaseException):
            raise self.upstream
        return Route.to(self.upstream)


class Recorder:
    def __init__(self):
        self.opened_sessions, self.records = [], []

    def opened(self, session):
        self.opened_sessions.append(session)

    def closed(self, record):
        self.records.append(record)


class RefusalRecorder(Recorder):
    """An observer of a proxy whose sessions are all refused."""

    def opened(self, session):
        raise AssertionError(session)


class Scene:
    """A listener with wires to the browser (``client``) and to the ESXi host (``host``)."""

    def __init__(self, upstream=UPSTREAM, **limits):
        self.clock = Clock()
        self.recorder = Recorder()
        self.admission = Admission(MemoryState(self.clock), self.clock)
        self.sessions = Sessions([self.recorder, self.admission], self.clock)
        self.connector = MemoryConnector(self)
        self.authenticator = Anybody()
        self.router = Fixed(upstream)
        gateway = Gateway(
            [Plugin("authenticator", self.authenticator)],
            [Plugin("router", self.router)],
            self.connector,
            self.admission,
            ConnectionLimits(),
        )
        self.factory = ListenerFactory("test", gateway, self.sessions, SessionLimits(**limits), self.clock)
        self.host = None
        self.backend = None
        self.client = Wire(self.factory.buildProtocol(None))

    def pump(self):
        """Deliver all bytes that can be delivered."""
        for _ in range(100000):
            moved = self.client.pump()
            if self.host is not None:
                moved = self.host.pump() or moved
            if not moved:
                return
        raise AssertionError("the wires never came to rest")

    def advance(self, seconds):
        """Advance the clock in small steps, and deliver all bytes after each."""
        steps = max(1, int(seconds * 10))
        for _ in range(steps):
            self.clock.advance(seconds / steps)
            self.pump()

    def request(self):
        """Return the opening handshake that the upstream received, as (request line, [fields])."""
        head = self.host.received.partition(b"\r\n\r\n")[0].split(b"\r\n")
        return head[0], [tuple(line.split(b": ", 1)) for line in head[1:]]

    def accept(self, protocol=b"binary", *fields, extra=b""):
        """Send the upstream's 101."""
        key = dict(self.request()[1])[b"Sec-WebSocket-Key"]
        accepting = accepting_fields(key.decode(), (protocol or b"").decode())
        more = [tuple(field.split(b": ", 1)) for field in fields]
        self.host.send(head_bytes("HTTP/1.1 101 Switching Protocols", [*accepting, *more]) + extra)

    def open(self):
        """Complete both opening handshakes, and clear the received bytes."""
        self.client.send(opening())
        self.pump()
        self.accept()
        self.pump()
        assert self.client.received.startswith(b"HTTP/1.1 101 "), self.client.received
        self.client.received = self.host.received = b""
        return self

    @property
    def record(self):
        (record,) = self.recorder.records
        return record

    def at_rest(self):
        """Return whether no connection, session or timer is left."""
        ended = self.client.ended and (self.host is None or self.host.ended)
        return bool(ended) and not len(self.sessions) and not self.clock.getDelayedCalls()


__all__ = ["KEY", "UPSTREAM", "Scene", "close", "frame", "frames", "opening", "up"]
