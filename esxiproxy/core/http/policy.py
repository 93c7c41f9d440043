"""The requests that a listener accepts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from esxiproxy.core.http.forwarded import TrustedProxies
from esxiproxy.core.http.origins import Origins


class Http(Enum):
    """The treatment of requests that are no WebSocket."""

    REFUSE = "refuse"
    """Answer with 426 and close the connection."""
    FORWARD = "forward"
    """Forward to the upstream."""
    PORTAL = "portal"
    """Forward to the portal in the admin process."""


@dataclass(frozen=True, slots=True)
class ListenerPolicy:
    """The policy of one listener.

    ``paths`` are the prefixes that are served, for WebSocket and HTTP; empty serves every path.  ``trust``
    has the proxies whose forwarded fields are accepted.  ``proxy_protocol`` is whether every connection
    begins with a PROXY header.  ``health`` is the path of health checks, or None.  ``origins`` has the
    origins whose pages may open consoles.  None is the default: the proxy's own origin if a browser sends the
    credentials of the listener by itself, and every origin otherwise.
    """

    http: Http = Http.REFUSE
    paths: tuple[bytes, ...] = ()
    trust: TrustedProxies = field(default_factory=TrustedProxies)
    proxy_protocol: bool = False
    health: bytes | None = None
    origins: Origins | None = None

    @property
    def methods(self) -> bytes:
        """The value of the Allow field.  Where requests are forwarded, other methods pass as well."""
        return b"GET" if self.http is Http.REFUSE else b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
