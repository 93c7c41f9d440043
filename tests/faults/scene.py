"""The proxy of the table: a listener for each way in which one can differ, and what stands behind them."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.fault import Fault
from tests.faults.plugins import ANSWERS, OFFERED
from tests.support.certificates import Certificate
from tests.support.probe import ProbedProxy
from tests.support.programs import dead_port, until
from tests.support.websocket import CLOSE
from tests.support.websocket_peers import Client, NotInTime, ScriptedUpstream, StreamEnded

PROXY = """
[proxy]
services = probe
access_log = access.log
head_timeout = 1s
tls_handshake_timeout = 1s
decision_timeout = 2s
connect_timeout = 1s
upstream_handshake_timeout = 2s
close_timeout = 1s
stall_timeout = 1s
response_timeout = 2s
keepalive_timeout = 1s
max_body = 500000
"""
OWN = "certificate = {own.path}\nprivate_key = {own.key_path}\n"
PLUGINS = {
    f"{seam}-{answer}": f"{seam} = {answer}\n" for seam in ("authenticator", "router") for answer in ANSWERS
}
LISTENERS = {
    "plain": ("plain", ""),
    "tls": ("plain", OWN),
    "secure": ("secure", ""),
    "mispinned": ("mispinned", ""),
    "unknown-ca": ("unknown-ca", ""),
    "no-tls": ("no-tls", ""),
    "unresolved": ("unresolved", ""),
    "dead": ("dead", "http = forward\n"),
    "unreachable": ("unreachable", ""),
    "quick": ("plain", "max_frame = 100KiB\n"),
    "pinging": ("plain", "ping_interval = 300ms\nping_timeout = 500ms\n"),
    "pinging-up": ("plain", "upstream_ping_interval = 300ms\nping_timeout = 500ms\n"),
    "idle": ("plain", "idle_timeout = 500ms\n"),
    "mortal": ("plain", "max_lifetime = 500ms\n"),
    "http": ("plain", "http = forward\n"),
    "bodies": ("plain", "http = forward\nmax_body = off\n"),
    "one": ("plain", "max_sessions = 1\n"),
    "single": ("single", ""),
    "rated": ("plain", "session_rate = 0.01\nsession_burst = 1\n"),
    "crowded": ("plain", "max_handshakes = 1\n"),
    "same-origin": ("plain", "origins = same\n"),
} | {name: ("" if keys.startswith("router") else "plain", keys) for name, keys in PLUGINS.items()}
UPSTREAMS = {
    "plain": "ws://127.0.0.1:{plain}",
    "secure": "wss://127.0.0.1:{secure}\nverify = pin\npin = sha256:{shown.sha256}",
    "mispinned": "wss://127.0.0.1:{secure}\nverify = pin\npin = sha256:{own.sha256}",
    "unknown-ca": "wss://127.0.0.1:{secure}\nverify = system",
    "no-tls": "wss://127.0.0.1:{plain}\nverify = none",
    "unresolved": "ws://esxi1.invalid:80\nupstream_handshake_timeout = 20s",
    "dead": "ws://127.0.0.1:{dead}",
    "unreachable": "ws://127.0.0.1:{unreachable}",
    "single": "ws://127.0.0.1:{plain}\nmax_connections = 1",
}
WATCHED = frozenset(
    {"Frontend", "Backend", "Dispatch", "Session", "Relay", "HttpClient", "HttpUpstream", "Exchange"}
)
WATCHED |= {"TCPStream", "TLSStream", "Slot", "Deferred", "coroutine", "timers", "Keepalive", "Valve"}


def text(**values: Any) -> str:
    """The configuration."""
    listeners = "".join(
        f"\n[listener {name}]\nlisten = 127.0.0.1:0\n{f'upstream = {upstream}' if upstream else ''}\n{keys}"
        for name, (upstream, keys) in LISTENERS.items()
    )
    upstreams = "".join(f"\n[upstream {name}]\nurl = {keys}\n" for name, keys in UPSTREAMS.items())
    return (PROXY + listeners + upstreams).format(**values)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the client and the upstream have seen, and what the proxy has written down."""

    status: int | None
    close: int | None
    upstream_close: int | None
    records: list[dict[str, Any]]


@dataclass
class Scene:
    """The running proxy, and what there is when nobody is connected."""

    proxy: ProbedProxy
    plain: ScriptedUpstream
    secure: ScriptedUpstream
    idle: int = 0
    before: dict[str, int] = field(default_factory=dict)
    _read: int = 0

    def play(self, fault: Fault) -> Seen:
        """Let it happen, and wait until nothing of it is left."""
        for upstream in (self.plain, self.secure):
            upstream.forget()
            upstream.script = fault.upstream
        tls = LISTENERS[fault.listener][1] == OWN and not fault.raw
        client = Client(self.proxy.ports[fault.listener], tls=tls, timeout=20)
        with client:
            fault.act(client)
            close = _read_to_the_end(client) if client.stream.fileno() >= 0 else None
        connections = self.plain.connections + self.secure.connections
        upstream_close = _last_close(connections[-1].frames) if connections else None
        records = self.wait_for_records(int(fault.recorded) + fault.beside, fault.how)
        self.rests(fault.how)
        if connections:
            connections[-1].finished.wait(10)
            upstream_close = _last_close(connections[-1].frames)
        head = bytes(client.received)
        status = int(head[9:12]) if head.startswith(b"HTTP/1.1 ") else None
        return Seen(status, close, upstream_close, records + self._records())

    def wait_for_records(self, count: int, what: str) -> list[dict[str, Any]]:
        """Return the next records of the access log, as soon as there are so many of them."""
        records: list[dict[str, Any]] = []

        def are_complete() -> bool:
            records.extend(self._records())
            return len(records) >= count

        until(are_complete, f"{count} records: {what}")
        return records

    def rests(self, what: str) -> None:
        """Until everything is as it was before anybody came."""

        def as_before() -> bool:
            return self.proxy.connections() == 0 and self.proxy.descriptors() == self.idle and not self.left()

        try:
            until(as_before, "nothing is left", 15)
        except AssertionError:
            raise AssertionError(
                f"left open after: {what}: {self.proxy.connections()} connections, "
                f"{self.proxy.descriptors() - self.idle} descriptors, {self.left()}"
            ) from None

    def left(self) -> dict[str, int]:
        """What there is now and was not before."""
        now = self.proxy.inside()
        more = {name: now.get(name, 0) - self.before.get(name, 0) for name in WATCHED}
        return {name: count for name, count in more.items() if count}

    def _records(self) -> list[dict[str, Any]]:
        """The lines that the access log has got since the last time."""
        path = self.proxy.folder / "access.log"
        lines = path.read_text().splitlines() if path.exists() else []
        new, self._read = lines[self._read :], len(lines)
        return [json.loads(line) for line in new]


def _read_to_the_end(client: Client) -> int | None:
    """As a good client would: it answers a Close.  The close code that came."""
    code: int | None = None
    with contextlib.suppress(StreamEnded, NotInTime, OSError, ValueError):
        if not bytes(client.received).startswith(b"HTTP/1.1 101"):
            head = client.recv_head()
            if head.status != 101:
                client.recv_eof()
                return None
        while True:
            got = client.recv_frame()
            if got.opcode == CLOSE:
                code = int.from_bytes(got.payload[:2], "big") if got.payload else None
                client.send_close(code)
                client.recv_eof()
                break
    return code


def _last_close(frames: list[Any]) -> int | None:
    closes = [got for got in frames if got.opcode == CLOSE]
    return int.from_bytes(closes[-1].payload[:2], "big") if closes and closes[-1].payload else None


@contextlib.contextmanager
def unreachable() -> Iterator[int]:
    """A port whose queue is full: Linux drops what else wants to connect."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            line = stack.enter_context(socket.socket())
            line.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                line.connect(listening.getsockname())
        yield listening.getsockname()[1]


@contextlib.contextmanager
def scene(shown: Certificate, own: Certificate) -> Iterator[Scene]:
    """All of it."""
    with (
        ScriptedUpstream() as plain,
        ScriptedUpstream(tls=shown.server_context()) as secure,
        dead_port() as dead,
        unreachable() as full,
    ):
        values = {"plain": plain.port, "secure": secure.port, "dead": dead, "unreachable": full}
        with ProbedProxy(text(shown=shown, own=own, **values), OFFERED) as proxy:
            scene = Scene(proxy, plain, secure)
            for name in ("tls", "secure"):  # whatever the first ones open for good is counted as there
                with Client(proxy.ports[name], tls=name == "tls") as client:
                    client.open("/")
            scene.wait_for_records(2, "the first ones")
            until(lambda: proxy.connections() == 0, "the first ones are gone")
            until(lambda: proxy.inside().get("Session", 0) == 0, "their sessions too")
            scene.idle, scene.before = proxy.descriptors(), proxy.inside()
            yield scene
            Path(proxy.folder / "access.log").unlink()
