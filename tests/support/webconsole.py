"""A stand-in for the HTML console of vCenter: a login, a page, and the WebSocket `/ui/webconsole/authd`.

It checks what vCenter checks: its own name in Host and Origin, the cookie of the login, and tickets.  vCenter
speaks the protocol of authd to port 902 of the host, and the browser gets what comes after it: RFB that
begins with ServerInit, without version and security.  The machine's picture has the colour of the last key.
"""

from __future__ import annotations

import contextlib
import struct
from http.cookies import SimpleCookie
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlencode
from uuid import uuid4

from tests.support.certificates import Certificate
from tests.support.peer import NotInTime, StreamEnded
from tests.support.websocket import BINARY, CLOSE, Head
from tests.support.websocket_peers import Connection, ScriptedUpstream

NAME, USER, PASSWORD, MACHINE = "vcenter.example.com", "alice", "Webc0nsole-pass", "web-01"
COOKIE = "VSPHERE-UI-JSESSIONID"
WIDTH, HEIGHT = 64, 48
FILES = Path(__file__).parent
LOGIN = b"""<!doctype html><meta charset=utf-8><title>login</title>
<form method=post><input name=user><input name=password type=password></form>
"""
UPDATE_REQUEST, KEY_EVENT = 3, 4
SIZES = {UPDATE_REQUEST: 10, KEY_EVENT: 8}


class WebConsole:
    """The vCenter on a free port with TLS; its requests and what was typed are kept."""

    def __init__(self, certificate: Certificate) -> None:
        self._session = uuid4().hex
        self._session_ticket = f"cst-VCT-{uuid4()}--tp-{certificate.sha1.replace(':', '-')}"
        self._unused: set[str] = set()
        self._tickets: list[str] = []
        self.thumbprint = certificate.sha1
        self.requests: list[Head] = []
        self.keys: list[str] = []
        self._server = ScriptedUpstream(self._serve, certificate.server_context())
        self.port = self._server.port
        shown = {"vmId": "vm-1", "vmName": MACHINE, "serverGuid": str(uuid4()), "host": f"{NAME}:443"}
        shown |= {"sessionTicket": self._session_ticket, "thumbprint": self.thumbprint}
        self.page = f"/ui/webconsole.html?{urlencode(shown, safe=':')}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()

    @property
    def cookie(self) -> str:
        """The cookie of the login, as a browser sends it."""
        return f"{COOKIE}={self._session}"

    @property
    def secrets(self) -> list[str]:
        """Everything that no log may have."""
        return [self._session, self._session_ticket, PASSWORD, *self._tickets]

    def openings(self) -> list[Head]:
        """Return the requests for the WebSocket."""
        return [request for request in self.requests if request.one("Upgrade")]

    def _serve(self, connection: Connection) -> None:
        with contextlib.suppress(StreamEnded, NotInTime):
            while True:
                request = connection.read_request()
                self.requests.append(request)
                body = connection.recv_exactly(int(request.one("Content-Length") or 0))
                refusal = self._refusal(request)
                if refusal is None and request.one("Upgrade"):
                    connection.accept("binary")
                    self._play(connection)
                    break
                self._answer(connection, request, body, refusal)
        connection.close()

    def _refusal(self, request: Head) -> str | None:
        """Return the status and the reason if vCenter would refuse this request, and use up its ticket."""
        path, _, query = request.target.partition("?")
        if request.one("Host") != NAME:
            return "400 The name is not that of this vCenter"
        asks = request.one("Upgrade") or request.line.startswith("POST ")
        if asks and request.one("Origin") != f"https://{NAME}":
            return "403 The origin is not that of this vCenter"
        if path == "/ui/login":
            return None
        cookies = SimpleCookie(request.one("Cookie") or "")
        if COOKIE not in cookies or cookies[COOKIE].value != self._session:
            return "401 Login first"
        fields = dict(parse_qsl(query))
        if path == "/ui/webconsole.html" and fields.get("sessionTicket") != self._session_ticket:
            return "403 The session ticket is unknown"
        if not request.one("Upgrade"):
            return None
        ticket = fields.get("mksTicket", "")
        if path != "/ui/webconsole/authd" or ticket not in self._unused or fields != self._fields(ticket):
            return "403 The ticket is unknown or used"
        self._unused.remove(ticket)
        return None

    def _fields(self, ticket: str) -> dict[str, str]:
        """Return the query of the WebSocket: the ticket, and the host that vCenter connects to."""
        return {
            "mksTicket": ticket,
            "host": "192.0.2.11",
            "port": "902",
            "cfgFile": f"[datastore 1] {MACHINE}/{MACHINE}.vmx",
            "sslThumbprint": self.thumbprint,
        }

    def _answer(self, connection: Connection, request: Head, body: bytes, refusal: str | None) -> None:
        """Answer a request that opens no WebSocket."""
        path, status, kind, content = request.target.partition("?")[0], "200 OK", "text/html", b""
        fields: list[tuple[str | bytes, str | bytes]] = []
        if refusal is not None:
            status, content = refusal, f"[{refusal.partition(' ')[0]}] {refusal.partition(' ')[2]}".encode()
        elif path == "/ui/login" and request.line.startswith("POST "):
            if dict(parse_qsl(body.decode())) == {"user": USER, "password": PASSWORD}:
                status = "303 See Other"
                fields = [
                    ("Location", self.page),
                    ("Set-Cookie", f"{self.cookie}; Path=/ui; Secure; HttpOnly"),
                ]
            else:
                status = "401 Wrong password"
        elif path == "/ui/login":
            content = LOGIN
        elif path == "/ui/webconsole.html":
            ticket = str(uuid4())
            self._tickets.append(ticket)
            self._unused.add(ticket)
            query = urlencode(self._fields(ticket)).replace("&", "&amp;")
            content = (FILES / "webconsole.html").read_text().replace("{query}", query).encode()
        elif path == "/ui/webconsole.js":
            kind, content = "text/javascript", (FILES / "webconsole.js").read_bytes()
        else:
            status = "404 Not Found"
        fields += [("Content-Type", kind), ("Content-Length", str(len(content)))]
        connection.send_head(status, fields, content)

    def _play(self, connection: Connection) -> None:
        """Play the console that the browser sees behind authd, until it is closed."""
        pixels = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
        connection.send_frame(BINARY, struct.pack(">HH16sI", WIDTH, HEIGHT, pixels, len(MACHINE)))
        connection.send_frame(BINARY, MACHINE.encode())
        received = b""
        while (got := connection.next_frame(timeout=30)).opcode != CLOSE:
            assert got.opcode == BINARY, got
            received += got.payload
            while received and len(received) >= (size := SIZES[received[0]]):
                message, received = received[:size], received[size:]
                if message[0] == KEY_EVENT and message[1]:
                    self.keys.append(chr(int.from_bytes(message[4:])))
                elif message[0] == UPDATE_REQUEST:
                    self._show(connection)
        connection.send_frame(CLOSE, got.payload)

    def _show(self, connection: Connection) -> None:
        """Send the picture in two messages of the WebSocket."""
        red, green, blue = colour(self.keys[-1] if self.keys else "")
        update = struct.pack(">BxHHHHHi", 0, 1, 0, 0, WIDTH, HEIGHT, 0)
        update += bytes([blue, green, red, 0]) * (WIDTH * HEIGHT)
        connection.send_frame(BINARY, update[:1000])
        connection.send_frame(BINARY, update[1000:])


def colour(key: str) -> tuple[int, int, int]:
    """Return the colour of the picture after this key, or before all keys."""
    return (ord(key), 255 - ord(key), 40) if key else (0, 0, 160)
