"""The Via field, and the loops that it reveals (RFC 9110 7.6.3)."""

from __future__ import annotations

import os

from esxiproxy.core.errors import LoopDetected
from esxiproxy.core.http.head import RequestHead

PSEUDONYM = b"esxiproxy"
"""The proxy's name in Proxy-Status."""
RECEIVED_BY = b"%b-%b" % (PSEUDONYM, os.urandom(4).hex().encode())
"""This process's name in Via.  Two proxies in a row are no loop, the same process twice is one."""
VIA_FIELDS = tuple((b"Via", b"1.%d %b" % (minor, RECEIVED_BY)) for minor in (0, 1))
"""The proxy's Via for a message of HTTP/1.0 and of HTTP/1.1."""


def via(version: tuple[int, int] = (1, 1)) -> bytes:
    """Return the proxy's Via entry for a message of this HTTP version."""
    return b"%d.%d %b" % (*version, RECEIVED_BY)


def check_loop(head: RequestHead) -> None:
    """Raise LoopDetected for a request that has passed this process before."""
    for value in head.named.get(b"via", ()):
        if any(RECEIVED_BY in entry.split()[1:2] for entry in value.split(b",")):
            raise LoopDetected("the request passed this proxy before: one of its upstreams leads back to it")
