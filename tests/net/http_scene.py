"""HTTP exchanges in memory: a client, the proxy, and an upstream that the test plays."""

from __future__ import annotations

from dataclasses import dataclass

from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.net.console.backend import Backend
from tests.net.memory import Wire
from tests.net.scene import UPSTREAM, MemoryConnector, Scene

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def chunked(*chunks, trailers=b""):
    """Return a body in these chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n" + trailers + b"\r\n"


def get(target=b"/ui/", *fields, method=b"GET", version=b"1.1", body=b"", host=b"proxy.example:81"):
    """Return a request as a browser sends it."""
    lines = [b"%b %b HTTP/%b" % (method, target, version), b"Host: " + host, *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@dataclass
class Message:
    """A parsed request or response; ``rest`` has the bytes after it."""

    line: bytes
    fields: list
    body: bytes
    trailers: list
    rest: bytes = b""
    whole: bool = True

    @property
    def status(self):
        return int(self.line.split(b" ")[1])

    def values(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower()]


def read(octets, bodiless=False):
    """Parse the first message in ``octets``; one without a framing extends to the end."""
    head, end, rest = octets.partition(b"\r\n\r\n")
    assert end, octets
    line, *lines = head.split(b"\r\n")
    found = Message(line, [tuple(each.split(b": ", 1)) for each in lines], b"", [])
    is_request = not line.startswith(b"HTTP/")
    status = 0 if is_request else found.status
    if bodiless or status in (204, 304) or 100 <= status < 200:
        found.rest = rest
    elif found.values(b"Transfer-Encoding") == [b"chunked"]:
        _read_chunks(found, rest)
    elif found.values(b"Content-Length"):
        (length,) = found.values(b"Content-Length")
        found.body, found.rest = rest[: int(length)], rest[int(length) :]
        found.whole = len(found.body) == int(length)
    elif is_request:
        found.rest = rest
    else:
        found.body = rest
    return found


def _read_chunks(found, rest):
    while True:
        size, end, rest = rest.partition(b"\r\n")
        count = int(size, 16) if end else 0
        if not end or (count and len(rest) < count + 2):
            found.whole = False
            return
        if not count:
            break
        found.body += rest[:count]
        assert rest[count : count + 2] == b"\r\n"
        rest = rest[count + 2 :]
    while True:
        line, end, rest = rest.partition(b"\r\n")
        if not end:
            found.whole = False
            return
        if not line:
            found.rest = rest
            return
        found.trailers.append(tuple(line.split(b": ", 1)))


class HttpConnector(MemoryConnector):
    """A connector to wires in memory; with ``slow``, the test calls ``up`` for each connection."""

    def __init__(self, scene):
        super().__init__(scene)
        self.slow = False
        self.waiting = []

    def dialled(self, protocol):
        if isinstance(protocol, Backend):
            super().dialled(protocol)
        elif self.slow:
            self.waiting.append(protocol)
        else:
            self.up(protocol)

    def up(self, protocol):
        self.scene.host = Wire(protocol)
        self.scene.hosts.append(self.scene.host)


class HttpScene(Scene):
    """A scene with wires to the client (``client``), the last upstream (``host``) and all (``hosts``)."""

    def __init__(self, upstream=UPSTREAM, policy=None, **limits):
        self.hosts = []
        super().__init__(upstream, **limits)
        self.connector.__class__ = HttpConnector
        self.connector.slow, self.connector.waiting = False, []
        self.factory.policy = policy or ListenerPolicy(http=Http.FORWARD)
        self.factory.gateway.forwards = self.factory.policy.http is Http.FORWARD

    def pump(self):
        for _ in range(1000000):
            moved = self.client.pump()
            for host in self.hosts:
                moved = host.pump() or moved
            if self.host is not None and self.host not in self.hosts:
                moved = self.host.pump() or moved
            if not moved:
                return
        raise AssertionError("the wires never came to rest")

    def ask(self, octets, chunk=None):
        """Send ``octets`` as the client; return the bytes that the upstream has received."""
        self.client.send(octets, chunk)
        self.pump()
        return None if self.host is None else self.host.received

    def answer(self, octets, chunk=None):
        """Send ``octets`` as the upstream; return the bytes that the client has received."""
        self.host.send(octets, chunk)
        self.pump()
        return self.client.received

    def clear(self):
        """Clear the received bytes of all wires."""
        self.client.received = b""
        for host in self.hosts:
            host.received = b""

    @property
    def records(self):
        return self.recorder.records

    def at_rest(self):
        ended = self.client.ended and all(host.ended for host in self.hosts)
        return bool(ended) and not len(self.sessions) and not self.clock.getDelayedCalls()
