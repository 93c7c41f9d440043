"""A client's request, as routers and authenticators see it."""

from __future__ import annotations

from dataclasses import dataclass

from esxiproxy.core.http.head import RequestHead
from esxiproxy.core.peer_address import PeerAddress


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request head, and how it came in.

    ``session`` is the id under which log and record know it; ``secure`` says whether the client's connection
    is TLS: to the listener, or to a trusted proxy in front of it.  ``forwarded_for`` is what
    X-Forwarded-For will say, the client's address first, ``public_host`` what the client calls us, and
    ``listening`` the address of ours that the connection came in at.  ``other_host`` is the same name with or
    without the port of X-Forwarded-Port, where the client's own Origin may have either.
    """

    session: str
    listener: str
    client: PeerAddress
    secure: bool
    head: RequestHead
    forwarded_for: tuple[str, ...] = ()
    public_host: bytes | None = None
    listening: PeerAddress | None = None
    other_host: bytes | None = None
