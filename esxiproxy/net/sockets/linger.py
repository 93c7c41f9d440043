"""The end of a connection that is given time, and never more than that."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime, ISSLTransport

from esxiproxy.net.sockets.progress import SOON, Progress
from esxiproxy.net.sockets.send_queue import unsent_bytes

MIN_RATE = 500
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
    """A connection that has its answer, and the time until it is aborted.

    The connection is half-closed, and aborted after ``timeout`` seconds: a peer that does not read never
    frees the descriptor. A peer that bytes still wait for gets more time while it takes them, at
    ``MIN_RATE`` octets a second or more. The rate is measured from one moment at which it was kept to the
    next, which is at most ``patience`` seconds later (``timeout``, if not given): a slow reader with a
    large receive buffer acknowledges much at once, and then nothing for many seconds. So a connection
    lasts for ``patience`` seconds and one second for each ``MIN_RATE`` octets that waited, at most. The
    owner calls ``cancel`` when the connection is lost.
    """

    def __init__(
        self, transport: Any, clock: IReactorTime, timeout: float, patience: float | None = None
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._timeout = timeout
        self._patience = max(timeout, patience or 0.0)
        half_close(transport)
        self._progress = Progress(transport)
        self._began = self._last = self._since = clock.seconds()
        self._came = self._taken = 0
        self._call: IDelayedCall = clock.callLater(timeout, self._check)

    def received(self, octets: int) -> None:
        """Note that the peer has sent so many bytes, which were discarded (RFC 9112 9.6).

        The connection is kept until ``timeout`` seconds after the last of them, for ``DISCARD`` seconds in
        all, as long as they come at ``MIN_RATE`` bytes a second.
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
        if self._came < MIN_RATE * (now - self._began):
            return 0.0
        return min(self._last + self._timeout, self._began + DISCARD) - now

    def _check(self) -> None:
        now = self._clock.seconds()
        self._taken += self._progress.taken()
        if self._taken >= MIN_RATE * (now - self._since):
            self._since, self._taken = now, 0
        left = self._since + self._patience - now
        if self._came and (rest := self._still_comes()) > 0:
            self._call = self._clock.callLater(rest, self._check)
        elif left >= SOON and unsent_bytes(self._transport):
            self._call = self._clock.callLater(min(left, self._timeout), self._check)
        else:
            self._transport.abortConnection()
