"""Probes for the other protocol: plain HTTP on a TLS port and TLS on a plain port.  They send no secret."""

from __future__ import annotations

import contextlib

from OpenSSL import SSL

from esxiproxy.doctor.deadline import Deadline
from esxiproxy.doctor.tls import client_connection
from esxiproxy.doctor.url import ConsoleUrl
from esxiproxy.doctor.wire import PlainWire, TlsWire

SECONDS = 2.0
"""Time limit of a probe."""


def speaks_http(url: ConsoleUrl, plain: PlainWire, deadline: Deadline) -> bool:
    """Return whether the host answers a plain request for ``/``."""
    request = f"GET / HTTP/1.1\r\nHost: {url.authority}\r\nConnection: close\r\n\r\n"
    with contextlib.suppress(OSError):
        plain.write(request.encode("ascii"), deadline)
        while len(plain.greeting) < 5 and plain.read(deadline):
            pass
    return plain.greeting.startswith(b"HTTP/")


def speaks_tls(url: ConsoleUrl, plain: PlainWire, deadline: Deadline) -> bool:
    """Return whether the host answers a TLS handshake, an alert included."""
    wire = TlsWire(plain, client_connection(url, SSL.Context(SSL.TLS_CLIENT_METHOD)))
    with contextlib.suppress(OSError, SSL.Error):
        wire.do_handshake(deadline)
    # RFC 8446 5.1: a handshake or an alert record.
    return plain.greeting[:1] in (b"\x15", b"\x16") and plain.greeting[1:2] == b"\x03"
