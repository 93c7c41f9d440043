"""The end of a connection that is given time, and never more than that."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime, ISSLTransport

from esxiproxy.net.unsent import unsent

SLOWEST = 500
"""Bytes a second: slower than that, and it is an attack."""
DISCARD = 30.0
"""Seconds for which a peer that goes on sending keeps its connection."""


def half_close(transport: Any) -> None:
    """Say that nothing more will come, after what is queued, and go on reading.

    Closing a socket that has unread input resets the connection, and the reset may overtake the answer that
    tells the peer why.  TCP has the half-close for that; TLS sends its close_notify and waits for the peer's.
    (A TLS transport offers TCP's ``loseWriteConnection`` too, but past the encryption: never call it.)
    """
    if ISSLTransport.providedBy(transport) or not hasattr(transport, "loseWriteConnection"):
        transport.loseConnection()
    else:
        transport.loseWriteConnection()


class Linger:
    """A connection that has its answer, and the time until it is cut.

    It is half-closed, and aborted after ``timeout`` seconds: a peer that does not read never frees the
    descriptor.  One that still takes what is waiting for it, at ``SLOWEST`` bytes a second or more, gets as
    much time again.  Whoever has it calls ``cancel`` when the connection is lost.
    """

    def __init__(self, transport: Any, clock: IReactorTime, timeout: float) -> None:
        self._transport = transport
        self._clock = clock
        self._timeout = timeout
        half_close(transport)
        self._left = unsent(transport)
        self._began = self._last = clock.seconds()
        self._came = 0
        self._call: IDelayedCall = clock.callLater(timeout, self._look)

    def received(self, octets: int) -> None:
        """Note that the peer has sent so many bytes, which were discarded (RFC 9112 9.6).

        The connection is kept until ``timeout`` seconds after the last of them, for ``DISCARD`` seconds in
        all, as long as they come at ``SLOWEST`` bytes a second.
        """
        self._came += octets
        self._last = self._clock.seconds()

    def active(self) -> bool:
        """Whether the connection is still to be cut."""
        return bool(self._call.active())

    def cancel(self) -> None:
        """It has ended by itself."""
        self._call.cancel()

    def _still_comes(self) -> float:
        """Seconds left for a peer that goes on sending."""
        now = self._clock.seconds()
        if self._came < SLOWEST * (now - self._began):
            return 0.0
        return min(self._last + self._timeout, self._began + DISCARD) - now

    def _look(self) -> None:
        if self._came and (rest := self._still_comes()) > 0:
            self._call = self._clock.callLater(rest, self._look)
            return
        left = unsent(self._transport)
        if left and left <= self._left - SLOWEST * self._timeout:
            self._left = left
            self._call = self._clock.callLater(self._timeout, self._look)
        else:
            self._transport.abortConnection()
