"""A client's request, the argument of routers and authenticators."""

from __future__ import annotations

from dataclasses import dataclass, field

from esxiproxy.core.http.head import RequestHead
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.quick_init import quick_init
from esxiproxy.core.redaction import Secrets, redact


@quick_init
@dataclass(frozen=True, slots=True)
class Request:
    """A checked request head, with the connection that it arrived on.

    ``session`` is the session's id in log and record.  ``secure`` is whether the client's connection uses
    TLS, to the listener or to a trusted proxy in front of it.  ``forwarded_for`` has the addresses for
    X-Forwarded-For, the client's first.  ``public_host`` is the host in the client's URL.  ``other_host`` is
    this host with or without the port of X-Forwarded-Port, where the client's Origin may have either.
    ``listening`` is the local address of the connection.  ``server_name`` is the name in the client's TLS
    handshake (SNI), and ``certificate`` the client's verified certificate in DER.  ``secrets`` are the places
    of secrets in the target.
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
    server_name: str | None = None
    certificate: bytes | None = field(default=None, repr=False)
    secrets: Secrets = ()

    def __repr__(self) -> str:
        """Return a text for logs and tracebacks, without secrets in the target and without field values."""
        method = self.head.method.decode("ascii", "replace")
        return f"<Request {self.session} at {self.listener} of {self.client}: {method} {self.shown_target}>"

    def with_head(self, head: RequestHead) -> Request:
        """Return the request with another head; ``dataclasses.replace`` takes many times as long."""
        return Request(
            self.session,
            self.listener,
            self.client,
            self.secure,
            head,
            self.forwarded_for,
            self.public_host,
            self.listening,
            self.other_host,
            self.server_name,
            self.certificate,
            self.secrets,
        )

    @property
    def shown_target(self) -> str:
        """The target for logs and records, without secrets."""
        return redact(self.head.target, self.secrets)

    @property
    def host(self) -> str:
        """The host name in the client's URL in lower case, without port and final dot; may be empty."""
        return host_of(self.public_host or self.head.value(b"host") or b"")


def host_of(value: bytes) -> str:
    """Return the host in a Host field in lower case, without its port and its final dot."""
    host = value.decode("latin-1").lower()
    if not host.endswith("]"):
        name, colon, port = host.rpartition(":")
        host = name if colon and (port.isdigit() or not port) else host
    return host.removesuffix(".")
