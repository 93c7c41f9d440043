"""Requests of clients, made from the text of a head."""

from __future__ import annotations

from typing import Any

from esxiproxy.core.http.head import parse
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress


def request(
    target: bytes = b"/", *fields: tuple[bytes, bytes], host: bytes = b"proxy.example", **more: Any
) -> Request:
    """Return a request for this target with these fields; `more` are fields of Request."""
    lines = [b"GET %b HTTP/1.1" % target, b"Host: " + host, *(b"%b: %b" % field for field in fields)]
    head = parse(b"\r\n".join(lines) + b"\r\n\r\n")
    given = {"session": "s", "listener": "l", "client": PeerAddress("198.51.100.7", 1), "secure": True}
    return Request(**{**given, **more}, head=head)
