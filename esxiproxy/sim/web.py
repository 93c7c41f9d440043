"""The HTTP of a simulated host: a parser of request heads and an encoder of answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

TEXT: Final = "text/plain; charset=utf-8"
HTML: Final = "text/html; charset=utf-8"
JSON: Final = "application/json"
ANY_ORIGIN: Final = (("Access-Control-Allow-Origin", "*"), ("Cache-Control", "no-store"))

FRONT_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>simulated ESXi host</title></head>
<body><h1>simulated ESXi host</h1>
<p>Consoles: <code>/ticket/&lt;one-time ticket&gt;</code>. A ticket: <a href="/sim/ticket">/sim/ticket</a>.
Counters: <a href="/sim/stats">/sim/stats</a>.</p></body></html>
"""


class BadHead(ValueError):
    """Raised for a request head that cannot be parsed."""


@dataclass(frozen=True, slots=True)
class SimRequestHead:
    """A request line and its fields; repeated fields are joined with a comma."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    fields: Mapping[str, str]

    @classmethod
    def parse(cls, head: bytes) -> SimRequestHead:
        """Parse a head without its empty last line. Raises `BadHead`."""
        request_line, *lines = head.decode("latin-1").split("\r\n")
        parts = request_line.split(" ")
        if len(parts) != 3 or parts[2] not in ("HTTP/1.0", "HTTP/1.1") or not parts[1].startswith("/"):
            raise BadHead("the request line cannot be read")
        fields: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise BadHead("a field cannot be read")
            key = name.lower()
            fields[key] = f"{fields[key]}, {value.strip()}" if key in fields else value.strip()
        path, _, query = parts[1].partition("?")
        try:
            parsed = parse_qs(query, keep_blank_values=True)
        except ValueError as error:
            raise BadHead("the query cannot be read") from error
        return cls(parts[0], path, parsed, fields)

    def listed(self, field: str) -> list[str]:
        """Return the members of a list field."""
        return [member.strip() for member in self.fields.get(field, "").split(",") if member.strip()]

    @property
    def upgrades(self) -> bool:
        """Whether the request asks for a WebSocket."""
        return "websocket" in (member.lower() for member in self.listed("upgrade"))


@dataclass(frozen=True, slots=True)
class SimResponse:
    """A whole HTTP answer; the connection ends after it."""

    status: int
    body: str
    content_type: str = TEXT
    fields: tuple[tuple[str, str], ...] = ()

    def encode(self, head_only: bool = False) -> bytes:
        """Return the answer's bytes, without the body if `head_only`."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unnamed"
        body = self.body.encode("utf-8")
        fields = (
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            *self.fields,
        )
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        return f"HTTP/1.1 {self.status} {phrase}\r\n{lines}\r\n".encode() + (b"" if head_only else body)
