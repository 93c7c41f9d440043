"""A client's request, the argument of routers and authenticators."""

from __future__ import annotations

from dataclasses import dataclass

from esxiproxy.core.http.head import RequestHead
from esxiproxy.core.peer_address import PeerAddress


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request head, with the connection that it arrived on.

    ``session`` is the session's id in log and record.  ``secure`` is whether the client's connection uses
    TLS, to the listener or to a trusted proxy in front of it.  ``forwarded_for`` has the addresses for
    X-Forwarded-For, the client's first.  ``public_host`` is the host in the client's URL.  ``other_host`` is
    this host with or without the port of X-Forwarded-Port, where the client's Origin may have either.
    ``listening`` is the local address of the connection.
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
