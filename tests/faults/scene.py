"""The proxy of the table: a listener for each way in which one can differ, and what stands behind them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.fault import Fault
from tests.faults.plugins import ANSWERS, OFFERED
from tests.support import config
from tests.support.certificates import Certificate
from tests.support.peer import NotInTime, StreamEnded
from tests.support.probe import ProbedProxy
from tests.support.programs import black_hole, dead_port, until
from tests.support.websocket import CLOSE, Head
from tests.support.websocket_peers import Client, ScriptedUpstream

TIMEOUTS = {
    **dict.fromkeys(("head", "tls_handshake", "connect", "close", "stall", "keepalive"), "1s"),
    **dict.fromkeys(("decision", "upstream_handshake", "response"), "2s"),
}
"""The timeouts of [proxy] without the ending of their keys."""
FORWARDS = {"http": "forward"}
PINGS = {"ping_timeout": "500ms"}
LISTENERS: dict[str, dict[str, str | None]] = {
    "plain": {},
    "tls": {},
    **{
        name: {"upstream": name}
        for name in ("secure", "mispinned", "unknown-ca", "no-tls", "unresolved", "unreachable", "single")
    },
    "dead": FORWARDS | {"upstream": "dead"},
    "quick": {"max_frame": "100KiB"},
    "pinging": PINGS | {"ping_interval": "300ms"},
    "pinging-up": PINGS | {"upstream_ping_interval": "300ms"},
    "idle": {"idle_timeout": "500ms"},
    "mortal": {"max_lifetime": "500ms"},
    "http": FORWARDS,
    "bodies": FORWARDS | {"max_body": "off"},
    "one": {"max_sessions": "1"},
    "rated": {"session_rate": "0.01", "session_burst": "1"},
    "crowded": {"max_handshakes": "1"},
    "same-origin": {"origins": "same"},
    **{f"authenticator-{answer}": {"authenticator": answer} for answer in ANSWERS},
    **{f"router-{answer}": {"router": answer, "upstream": None} for answer in ANSWERS},
}
"""The keys of each listener; without `upstream` it leads to `plain`."""
WATCHED = frozenset(
    {"Frontend", "Backend", "Dispatch", "Session", "Relay", "HttpClient", "HttpUpstream", "Exchange"}
)
WATCHED |= {"TCPStream", "TLSStream", "Slot", "Deferred", "coroutine", "timers", "Keepalive", "Valve"}


def text(plain: int, secure: int, dead: int, unreachable: int, shown: Certificate, own: Certificate) -> str:
    """Return the configuration."""
    listeners = (
        config.listener(name, tls=own if name == "tls" else None, **{"upstream": "plain", **keys})
        for name, keys in LISTENERS.items()
    )
    local = "wss://127.0.0.1:"
    return config.ini(
        *listeners,
        config.upstream(plain, "plain"),
        config.upstream(secure, "secure", pin=shown),
        config.upstream(secure, "mispinned", pin=own),
        config.upstream(f"{local}{secure}", "unknown-ca", verify="system"),
        config.upstream(f"{local}{plain}", "no-tls", verify="none"),
        config.upstream("ws://esxi1.invalid:80", "unresolved", upstream_handshake_timeout="20s"),
        config.upstream(dead, "dead"),
        config.upstream(unreachable, "unreachable"),
        config.upstream(plain, "single", max_connections=1),
        services="probe",
        access_log="access.log",
        max_body=500_000,
        **{f"{name}_timeout": value for name, value in TIMEOUTS.items()},
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """The answer to the client, the Close frames of both sides, and the records of the proxy."""

    status: int | None
    close: int | None
    upstream_close: int | None
    records: list[dict[str, Any]]
    proxy_status: str | None


@dataclass
class Scene:
    """The running proxy, and the number of its objects without clients."""

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
        tls = fault.listener == "tls" and not fault.raw
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
        octets = bytes(client.received)
        head = (
            Head.of(octets.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
            if octets.startswith(b"HTTP/1.1 ")
            else None
        )
        records += self._records()
        if head is None:
            return Seen(None, close, upstream_close, records, None)
        return Seen(head.status, close, upstream_close, records, head.one("Proxy-Status"))

    def wait_for_records(self, count: int, what: str) -> list[dict[str, Any]]:
        """Return the next records of the access log, as soon as there are so many of them."""
        records: list[dict[str, Any]] = []

        def are_complete() -> bool:
            records.extend(self._records())
            return len(records) >= count

        until(are_complete, f"{count} records: {what}")
        return records

    def rests(self, what: str) -> None:
        """Wait until the proxy has as many objects and descriptors as without clients."""

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
        """Return the numbers of objects that were not there before."""
        now = self.proxy.inside()
        more = {name: now.get(name, 0) - self.before.get(name, 0) for name in WATCHED}
        return {name: count for name, count in more.items() if count}

    def _records(self) -> list[dict[str, Any]]:
        """Return the new lines of the access log."""
        path = self.proxy.folder / "access.log"
        lines = path.read_text().splitlines() if path.exists() else []
        new, self._read = lines[self._read :], len(lines)
        return [json.loads(line) for line in new]


def _read_to_the_end(client: Client) -> int | None:
    """Read to the end and answer a Close, as a good client does; return its close code."""
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
def scene(shown: Certificate, own: Certificate) -> Iterator[Scene]:
    """Run the proxy and its upstreams."""
    with (
        ScriptedUpstream() as plain,
        ScriptedUpstream(tls=shown.server_context()) as secure,
        dead_port() as dead,
        black_hole() as full,
    ):
        content = text(plain.port, secure.port, dead, full, shown, own)
        with ProbedProxy(content, OFFERED) as proxy:
            scene = Scene(proxy, plain, secure)
            first, recorded = {"tls", "secure"}, set[str]()
            for name in first:  # whatever the first ones open for good is counted as there
                with Client(proxy.ports[name], tls=name == "tls") as client:
                    client.open("/")

            def are_recorded() -> bool:
                recorded.update(record["listener"] for record in scene._records())
                return recorded >= first

            until(are_recorded, "the records of the first ones")
            until(lambda: proxy.connections() == 0, "the first ones are gone")
            until(lambda: proxy.inside().get("Session", 0) == 0, "their sessions too")
            scene.idle, scene.before = proxy.descriptors(), proxy.inside()
            yield scene
            Path(proxy.folder / "access.log").unlink()
