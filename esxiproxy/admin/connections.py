"""The deadline of the requests on a connection of the admin service."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure

REQUEST_TIMEOUT = 10.0
"""Seconds from the first byte of a request, or from the accepted connection, to the end of the request."""


class AdminConnection(ProtocolWrapper):
    """A connection that is aborted when a client takes too long to send a request, or its TLS handshake.

    ``factory`` has a ``clock``.  ``waiting_since`` is the time of the clock from which on no request was in
    progress, None while one is answered.
    """

    def __init__(self, factory: Any, wrapped: Any) -> None:
        super().__init__(factory, wrapped)
        self._clock = factory.clock
        self._deadline: IDelayedCall | None = None
        self._is_answering = False
        self.waiting_since: float | None = None

    def makeConnection(self, transport: Any) -> None:
        self.waiting_since = self._clock.seconds()
        self._expect_request()
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        if not self._is_answering:
            self._expect_request()
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.waiting_since = None
        self._is_answering = True
        self._cancel()
        super().connectionLost(reason)

    def request_begins(self) -> None:
        """Note that a whole request was received."""
        self.waiting_since = None
        self._is_answering = True
        self._cancel()

    def request_ends(self) -> None:
        """Note that a request was answered."""
        self.waiting_since = self._clock.seconds()
        self._is_answering = False

    def abort(self) -> None:
        """Close the connection at once."""
        transport: Any = self.transport
        transport.abortConnection()

    def _expect_request(self) -> None:
        if self._deadline is None:
            self._deadline = self._clock.callLater(REQUEST_TIMEOUT, self._expire)

    def _expire(self) -> None:
        self._deadline = None
        self.abort()

    def _cancel(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()


def connection_of(transport: Any) -> AdminConnection:
    """Return the connection of a transport, which may have TLS in between."""
    while not isinstance(transport, AdminConnection):
        transport = transport.transport
    return transport
