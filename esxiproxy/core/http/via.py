"""Via: the trail of the proxies that a message came through, and how a loop shows in it (RFC 9110 7.6.3)."""

from __future__ import annotations

import os

from esxiproxy.core.errors import LoopDetected
from esxiproxy.core.http.head import RequestHead

PSEUDONYM = b"esxiproxy"
"""How the proxy calls itself in Proxy-Status."""
RECEIVED_BY = b"%b-%b" % (PSEUDONYM, os.urandom(4).hex().encode())
"""How this very process calls itself in Via: two proxies behind each other are no loop, one met twice is."""


def via(version: tuple[int, int] = (1, 1)) -> bytes:
    """Our entry, for a message that came in with that version of HTTP."""
    return b"%d.%d %b" % (*version, RECEIVED_BY)


def check_loop(head: RequestHead) -> None:
    """Raises LoopDetected for a request that has been here before."""
    for value in head.values(b"via"):
        if any(RECEIVED_BY in entry.split()[1:2] for entry in value.split(b",")):
            raise LoopDetected("the request came back: an upstream of ours leads to ourselves")
