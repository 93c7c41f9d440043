"""Whether a port that does not answer as it was asked would have answered otherwise.  No secret is told."""

from __future__ import annotations

import contextlib

from OpenSSL import SSL

from esxiproxy.doctor.deadline import Deadline
from esxiproxy.doctor.tls import client_connection
from esxiproxy.doctor.url import ConsoleUrl
from esxiproxy.doctor.wire import PlainWire, TlsWire

SECONDS = 2.0
"""A probe is worth no more waiting than this."""


def speaks_http(url: ConsoleUrl, plain: PlainWire, deadline: Deadline) -> bool:
    """Whether a plain request for the front page is answered."""
    request = f"GET / HTTP/1.1\r\nHost: {url.authority}\r\nConnection: close\r\n\r\n"
    with contextlib.suppress(OSError):
        plain.write(request.encode("ascii"), deadline)
        while len(plain.greeting) < 5 and plain.read(deadline):
            pass
    return plain.greeting.startswith(b"HTTP/")


def speaks_tls(url: ConsoleUrl, plain: PlainWire, deadline: Deadline) -> bool:
    """Whether a TLS handshake is answered, be it with an alert."""
    wire = TlsWire(plain, client_connection(url, SSL.Context(SSL.TLS_CLIENT_METHOD)))
    with contextlib.suppress(OSError, SSL.Error):
        wire.do_handshake(deadline)
    # RFC 8446 5.1: a handshake or an alert record.
    return plain.greeting[:1] in (b"\x15", b"\x16") and plain.greeting[1:2] == b"\x03"
