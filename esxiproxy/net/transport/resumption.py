"""The one TLS session of an upstream that is remembered, so that the next handshake is short."""

from __future__ import annotations

from OpenSSL import SSL


class Resumption:
    """Belongs to one address, one verify rule and one set of pins: to one creator of connections.

    OpenSSL takes a session only for the context that it came from.  A resumed session brings its certificate
    along, and the protocol checks that again each time.
    """

    def __init__(self) -> None:
        self._session: SSL.Session | None = None

    def offer(self, connection: SSL.Connection) -> None:
        """Before a handshake."""
        session = self._session
        if session is not None:
            try:
                connection.set_session(session)
            except ValueError:  # of another context: the files were renewed
                self._session = None

    def remember(self, connection: SSL.Connection) -> None:
        """After a handshake, and after the peer's certificate was accepted."""
        self._session = connection.get_session()
