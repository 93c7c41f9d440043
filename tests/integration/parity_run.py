"""A session through a proxy, and the facts that both of its sides observe.

A case plays one session through `Run`. It has no expectations: the parity test compares the facts of two
proxies.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.support.listeners import Listeners
from tests.support.peer import NotInTime, Peer, StreamEnded
from tests.support.programs import TICKET
from tests.support.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Field,
    Frame,
    Head,
)
from tests.support.websocket_peers import Client, Connection, Script, ScriptedUpstream

OPCODES = {CONTINUATION: "CONT", TEXT: "TEXT", BINARY: "BINARY", CLOSE: "CLOSE", PING: "PING", PONG: "PONG"}
RECEIVE_TIMEOUT = 4.0
"""Seconds in which a client expects data."""
SILENCE_TIMEOUT = 2.0
"""Seconds without data after which a side counts as silent: more than close_timeout, which is 1 s here."""
ANSWERED = [
    "Upgrade",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
    "Set-Cookie",
    "Location",
    "WWW-Authenticate",
    "Retry-After",
    "Proxy-Status",
    "X-One",
]
"""The fields of an answer that are observed. X-Request-ID is a new one each time."""
WATCHED = [
    "host",
    "origin",
    "cookie",
    "user-agent",
    "authorization",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "sec-websocket-version",
    "upgrade",
    "x-one",
    "x-two",
]
"""The fields of a request that are observed."""


def shown(got: Frame) -> str:
    """Return a frame as text."""
    name = OPCODES.get(got.opcode, hex(got.opcode)) + ("" if got.fin else "+")
    name += f" rsv={got.rsv}" if got.rsv else ""
    if got.opcode == CLOSE:
        code = int.from_bytes(got.payload[:2], "big") if got.payload else "-"
        return f"{name} {code} {got.payload[2:].decode()}".rstrip()
    if len(got.payload) > 64:
        return f"{name} {len(got.payload)} bytes {hashlib.sha256(got.payload).hexdigest()[:12]}"
    return f"{name} {got.payload.decode('latin-1')}".rstrip()


def received_until_end(peer: Peer, seconds: float = SILENCE_TIMEOUT) -> list[str]:
    """Return the frames that this side still receives, a part of one, and whether the stream ended."""
    seen: list[str] = []
    try:
        while True:
            seen.append(shown(peer.recv_frame(seconds)))
    except StreamEnded as end:
        return [*seen, *(["a part of a frame"] if end.got else []), "end"]
    except NotInTime:
        return [*seen, "still open"]


@dataclass
class Run:
    """One case through one proxy, and the facts that both sides observed by their names."""

    listeners: Listeners
    name: str
    upstream: ScriptedUpstream
    observed: dict[str, object] = field(default_factory=dict)
    clients: list[Client] = field(default_factory=list)

    def client(self, name: str | None = None) -> Client:
        """Return a new client of the listener."""
        self.clients.append(self.listeners.client(name or self.name, timeout=RECEIVE_TIMEOUT))
        return self.clients[-1]

    def open(
        self,
        script: Script | None = None,
        target: str = f"/ticket/{TICKET}",
        subprotocols: Sequence[str] = ("binary",),
        fields: Sequence[Field] = (),
    ) -> Client:
        """Open a session with this upstream, and observe the answer."""
        self.upstream.script = script
        client = self.client()
        self.observe_answer(client, lambda: client.ask(target, subprotocols, fields))
        return client

    def observe_answer(self, client: Client, ask: Callable[[], Head]) -> None:
        """Observe the answer to an opening handshake."""
        try:
            head = ask()
        except StreamEnded:
            self.observed["answer"] = "none"
            return
        except NotInTime:
            self.observed["answer"] = "none in time"
            return
        if not head.line.startswith("HTTP/1.1 "):
            self.observed["answer"] = head.line
            return
        self.observed["status"] = head.status
        for name in ANSWERED:
            if values := head.all(name):
                self.observed[name] = values
        # The body of a refusal by the proxy may differ. A body of the upstream begins with a mark.
        if head.status != 101:
            with contextlib.suppress(StreamEnded, NotInTime):
                body = client.recv_body(head, SILENCE_TIMEOUT)
                self.observed["body"] = body.decode() if body.startswith(b"upstream:") else "the proxy's"

    def peer(self) -> Connection:
        """Return the upstream's end of the session."""
        return self.upstream.connection()

    def observe_request(self) -> None:
        """Observe the request that the upstream got."""
        request = self.peer().request
        assert request is not None
        self.observed["request line"] = request.line
        own = re.compile(rf"(https?://)?127\.0\.0\.1:{self.upstream.port}$")
        self.observed["request fields"] = sorted(
            f"{name.lower()}: {own.sub('the upstream', value)}"
            for name, value in request.fields
            if name.lower() in WATCHED
        )

    def observe_upstream(self) -> None:
        """Observe the frames that the upstream got, and whether its stream ended."""
        connection = self.peer()
        done = connection.finished.wait(SILENCE_TIMEOUT)
        self.observed["upstream got"] = [shown(got) for got in connection.frames]
        self.observed["upstream's frames are masked"] = all(got.masked for got in connection.frames)
        self.observed["upstream's stream"] = "done" if done else "still open"

    def observe_echoes(self, client: Client, count: int) -> None:
        """Observe a number of echoes."""
        self.observed["echoes"] = [shown(client.recv_frame(30)) for _ in range(count)]

    def close(self, client: Client, code: int | None = 1000, reason: str = "done") -> None:
        """Close the session from the side of the client, and observe the end."""
        client.send_close(code, reason)
        self.observe_rest(client)

    def observe_rest(self, client: Client) -> None:
        """Observe all that both sides still receive."""
        self.observed["client got"] = received_until_end(client)
        client.close()
        self.observe_upstream()

    def stop(self) -> None:
        """Close all connections."""
        for client in self.clients:
            client.close()
        self.upstream.forget()


Case = Callable[[Run], None]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Enter a function into the table under its own name."""
    CASES[function.__name__] = function
    return function
