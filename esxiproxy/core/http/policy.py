"""What a listener lets in, beside its limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from esxiproxy.core.http.forwarded import TrustedProxies


class Http(Enum):
    """What becomes of requests that are no WebSocket."""

    REFUSE = "refuse"
    """They get an answer of ours, and the connection is closed."""
    FORWARD = "forward"
    """They go to the upstream as well."""


@dataclass(frozen=True, slots=True)
class ListenerPolicy:
    """The policy of one listener.

    ``paths`` are the prefixes that are served, WebSocket and HTTP alike, all when it is empty; ``trust`` says
    whose forwarded fields are believed; ``proxy_protocol``, that every connection begins with a PROXY header.
    ``health`` is the path of health checks, None without.
    """

    http: Http = Http.REFUSE
    paths: tuple[bytes, ...] = ()
    trust: TrustedProxies = field(default_factory=TrustedProxies)
    proxy_protocol: bool = False
    health: bytes | None = None

    @property
    def methods(self) -> bytes:
        """What an Allow field of ours says: what is served; a method unknown to us passes, too."""
        return b"GET" if self.http is Http.REFUSE else b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
