"""Connects to one IP address or unix socket, within a deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import TimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

Failed = Callable[[Failure], None]


class Dial(ClientFactory):
    """An attempt to connect to one IP address or to one unix socket.

    ``failed`` is called with the reason when no connection can be made.  Used in place of Twisted's
    endpoints, which wrap each protocol and query all its interfaces.  The reactor's connectors have a
    deadline too, but it runs on the reactor and not on the clock.
    """

    noisy = False
    connector: Any = None
    """The reactor's connector until the attempt has ended; None after that, to avoid a reference cycle."""

    def __init__(self, clock: Any, factory: Any, failed: Failed) -> None:
        self._clock = clock
        self._factory = factory
        self._failed = failed
        self._deadline: IDelayedCall | None = None
        self._timed_out = False

    def start(self, reactor: Any, host: str, port: int, seconds: float) -> None:
        """Connect to the address within so many seconds.

        ``host`` is an IP address, or the absolute path of a unix socket, which has no port.
        """
        self._deadline = self._clock.callLater(seconds, self._expire)
        try:
            if host.startswith("/"):
                self.connector = reactor.connectUNIX(host, self, None)
            else:
                self.connector = reactor.connectTCP(host, port, self, None, None)
        except BaseException:
            self._ended()
            raise

    def stop(self) -> None:
        """Cancel the attempt; a connection that is already made belongs to its protocol."""
        connector = self.connector
        self._ended()
        if connector is not None:
            connector.stopConnecting()

    def _expire(self) -> None:
        self._timed_out = True
        if self.connector is not None:
            self.connector.stopConnecting()

    def _ended(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()
        self.connector = None

    def buildProtocol(self, addr: Any) -> Any:
        self._ended()
        return self._factory.buildProtocol(addr)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self._ended()
        self._failed(Failure(TimeoutError()) if self._timed_out else reason)
