"""The TLS session of an upstream, kept so that the next handshake is abbreviated (RFC 8446 2.2)."""

from __future__ import annotations

from OpenSSL import SSL


class Resumption:
    """The last TLS session with one upstream.

    An object belongs to one creator of connections: to one address, one verify rule and one set of pins.
    OpenSSL accepts a session only for the context that created it.  A resumed session includes its
    certificate, which the protocol checks again for each connection.
    """

    def __init__(self) -> None:
        self._session: SSL.Session | None = None

    def offer(self, connection: SSL.Connection) -> None:
        """Set the session on a connection, before its handshake."""
        session = self._session
        if session is not None:
            try:
                connection.set_session(session)
            except ValueError:  # the context is another one, since its files were renewed
                self._session = None

    def remember(self, connection: SSL.Connection) -> None:
        """Keep the session of a connection, after its handshake and after its certificate was accepted."""
        self._session = connection.get_session()
