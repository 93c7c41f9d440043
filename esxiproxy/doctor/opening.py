"""The opening handshake (RFC 6455 section 4): the request, and a check of the answer for known faults."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

import h11

from esxiproxy.core.http.answer_head import MAX_EMPTY
from esxiproxy.core.http.head import MAX_HEAD, Fields, tokens
from esxiproxy.core.websocket.handshake import accept_value
from esxiproxy.doctor.deadline import Deadline
from esxiproxy.doctor.url import ConsoleUrl
from esxiproxy.doctor.wire import Wire

MAX_BODY = 2048
"""Bytes of a refusal's body that are read; its first line is shown."""
MAX_INTERIM = 5
_EMPTY_LINES = re.compile(rb"(?:\r\n){0,%d}" % MAX_EMPTY)
"""Empty lines before a status line, which the proxy accepts too (RFC 9112 2.2)."""
_HEAD_END = re.compile(rb"\n\r?\n")


class OpeningFault(Enum):
    """Reasons why an answer does not accept the handshake."""

    SILENT = auto()
    ENDED = auto()
    RESET = auto()
    TLS = auto()
    """The answer is a TLS record, so the port expects TLS."""
    GARBAGE = auto()
    CUT = auto()
    """The answer ended within its head."""
    ENDLESS_HEAD = auto()
    INTERIM = auto()
    STATUS = auto()
    VERSION = auto()
    NO_UPGRADE = auto()
    WRONG_ACCEPT = auto()
    EXTENSION = auto()


@dataclass(frozen=True, slots=True)
class UpgradeResponse:
    """The answer to the handshake.  ``early`` are the bytes that followed the 101."""

    fault: OpeningFault | None
    status: int = 0
    reason: str = ""
    fields: Fields = ()
    body: bytes = b""
    early: bytes = b""
    first: bytes = b""
    detail: str = ""
    accept_right: bool = False

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a field whose name is given in lower case."""
        return [value for field, value in self.fields if field.lower() == name]

    @property
    def subprotocols(self) -> list[str]:
        """The subprotocols that the host chose; a correct answer has one at most."""
        return [value.decode("latin-1") for value in self.values(b"sec-websocket-protocol")]


def opening_fields(url: ConsoleUrl, offered: Sequence[str], key: bytes) -> Fields:
    """Return the fields that the proxy sends for a browser, without the optional ones."""
    fields = [
        (b"Host", url.authority.encode("ascii")),
        (b"Origin", url.origin.encode("ascii")),
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Key", key),
    ]
    if offered:
        fields.append((b"Sec-WebSocket-Protocol", ", ".join(offered).encode("ascii")))
    return tuple(fields)


class UpgradeExchange:
    """One handshake request and its answer."""

    def __init__(self, url: ConsoleUrl, fields: Fields, key: bytes) -> None:
        self._request = h11.Request(method=b"GET", target=url.target, headers=list(fields))
        self._key = key
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._first = b""
        self._head = b""
        self._answer: h11.Response | None = None
        self._body = b""
        self._interim = 0

    def perform(self, wire: Wire, deadline: Deadline) -> UpgradeResponse:
        """Send the request and read the answer, until the deadline."""
        octets = self._http.send(self._request)
        assert octets is not None
        self._http.send(h11.EndOfMessage())
        try:
            # A host that refuses a client after the TLS handshake has sent its alert before this fails.
            with contextlib.suppress(ConnectionError):
                wire.write(octets, deadline)
            while True:
                received = wire.read(deadline)
                if len(self._first) < MAX_BODY:
                    self._first += received
                if (answer := self._read(received)) is not None:
                    return answer
        except TimeoutError:
            return self._refused() or self._unanswered(OpeningFault.SILENT)
        except OSError as error:
            return self._refused() or self._unanswered(OpeningFault.RESET, error.strerror or str(error))

    def _read(self, octets: bytes) -> UpgradeResponse | None:
        """Process bytes from the host, ``b""`` at their end.  Return the answer once it is known."""
        try:
            self._feed(octets)
            while True:
                event = self._next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return None
                if (answer := self._handle(event)) is not None:
                    return answer
        except h11.RemoteProtocolError as error:
            if self._answer is not None:
                return self._refused()
            if error.error_status_hint == 431:
                return UpgradeResponse(OpeningFault.ENDLESS_HEAD, first=self._first)
            return self._unanswered(OpeningFault.GARBAGE if octets else OpeningFault.ENDED, str(error))

    def _feed(self, octets: bytes) -> None:
        """Buffer bytes of a head, pass bytes of a body to h11.  ``b""`` is the end of the stream."""
        if octets and self._answer is None:
            self._head += octets
            return
        rest, self._head = self._head, b""
        if rest:
            self._http.receive_data(rest)
        self._http.receive_data(octets)

    def _next_event(self) -> Any:
        """Pass the next whole head to h11 without the empty lines before it, and return h11's next event."""
        if self._answer is None and self._head:
            head = _skip_empty_lines(self._head)
            found = _HEAD_END.search(head)
            end = 0 if found is None else found.end()
            # h11 reports the error of a head that is too long or begins with a control character.
            if found is None and (len(head) > MAX_HEAD or (head != b"\r" and head[:1] < b"!")):
                end = len(head)
            if end:
                self._http.receive_data(head[:end])
                self._head = head[end:]
        return self._http.next_event()

    def _handle(self, event: Any) -> UpgradeResponse | None:
        if isinstance(event, h11.InformationalResponse):
            if event.status_code == 101:
                return self._judge(event)
            self._interim += 1
            return UpgradeResponse(OpeningFault.INTERIM) if self._interim > MAX_INTERIM else None
        if isinstance(event, h11.Response):
            self._answer = event
            rest, self._head = self._head, b""
            if rest:
                self._http.receive_data(rest)
            return None
        if isinstance(event, h11.Data):
            self._body += event.data
            return self._refused() if len(self._body) >= MAX_BODY else None
        if isinstance(event, h11.EndOfMessage):
            return self._refused()
        return self._unanswered(OpeningFault.ENDED)

    def _judge(self, event: h11.InformationalResponse) -> UpgradeResponse:
        fields = tuple(event.headers.raw_items())
        answer = UpgradeResponse(None, 101, event.reason.decode("latin-1"), fields, early=self._head)
        right = answer.values(b"sec-websocket-accept") == [accept_value(self._key)]
        fault = None
        if event.http_version != b"1.1":
            fault = OpeningFault.VERSION
        elif tokens(answer.values(b"upgrade")) != [b"websocket"] or b"upgrade" not in tokens(
            answer.values(b"connection")
        ):
            fault = OpeningFault.NO_UPGRADE
        elif not right:
            fault = OpeningFault.WRONG_ACCEPT
        elif answer.values(b"sec-websocket-extensions"):
            fault = OpeningFault.EXTENSION
        return replace(answer, fault=fault, accept_right=right)

    def _refused(self) -> UpgradeResponse | None:
        if self._answer is None:
            return None
        reason = self._answer.reason.decode("latin-1")
        fields = tuple(self._answer.headers.raw_items())
        body = self._body[:MAX_BODY]
        return UpgradeResponse(OpeningFault.STATUS, self._answer.status_code, reason, fields, body)

    def _unanswered(self, fault: OpeningFault, detail: str = "") -> UpgradeResponse:
        """Return an answer with this fault, or with the more exact one that the first bytes show."""
        first = _skip_empty_lines(self._first)
        if first[:1] in (b"\x15", b"\x16") and first[1:2] == b"\x03":
            fault = OpeningFault.TLS
        elif first and not first.startswith(b"HTTP/1."[: len(first)]):
            fault = OpeningFault.GARBAGE
        elif first and fault in (OpeningFault.SILENT, OpeningFault.ENDED, OpeningFault.RESET):
            fault = OpeningFault.CUT
        return UpgradeResponse(fault, first=first, detail=detail)


def _skip_empty_lines(octets: bytes) -> bytes:
    found = _EMPTY_LINES.match(octets)
    assert found is not None
    return octets[found.end() :]
