"""Closes a connection after its last response, with a limited time for the client to receive it."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime, ISSLTransport

from esxiproxy.net.sockets.progress import SOON, Progress
from esxiproxy.net.sockets.send_queue import unsent_bytes

MIN_RATE = 500
"""Minimum rate, in bytes a second, at which a lingering peer has to receive or send."""
DISCARD_TIMEOUT = 30.0
"""Maximum number of seconds for which bytes of a peer that continues to send are discarded."""


def half_close(transport: Any) -> None:
    """Close the write side of a connection after the queued bytes, and continue to read.

    Closing a socket with unread input resets the connection, and the peer may receive the reset before the
    response.  On TCP the write side is shut down; TLS sends its close_notify and waits for that of the peer.
    The ``loseWriteConnection`` of a TLS transport is not used: it would bypass the encryption.
    """
    if ISSLTransport.providedBy(transport) or not hasattr(transport, "loseWriteConnection"):
        transport.loseConnection()
    else:
        transport.loseWriteConnection()


class Linger:
    """A half-closed connection, and the timer that aborts it.

    The connection is aborted after ``timeout`` seconds, because a peer that does not read would keep its
    descriptor in use.  While unsent bytes remain, the connection is kept as long as the peer receives them
    at ``MIN_RATE`` bytes a second or more.  This rate is measured over up to ``patience`` seconds (by default
    ``timeout``), because a slow reader with a large receive buffer acknowledges many bytes at once and then
    none for a long time.  The connection lasts at most ``patience`` seconds, and one second more for each
    ``MIN_RATE`` bytes that were unsent.

    The owner calls ``cancel`` when the connection is lost.
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
        self._received = self._taken = 0
        self._call: IDelayedCall = clock.callLater(timeout, self._check)

    def received(self, octets: int) -> None:
        """Note that this many bytes of the peer were read and discarded (RFC 9112 9.6).

        The connection is kept until ``timeout`` seconds after the last byte, but for ``DISCARD_TIMEOUT``
        seconds at most, and only if the peer sends at ``MIN_RATE`` bytes a second or more.
        """
        self._received += octets
        self._last = self._clock.seconds()

    def active(self) -> bool:
        """Return whether the connection has not ended and has not been aborted yet."""
        return bool(self._call.active())

    def cancel(self) -> None:
        """Stop the timer: the connection has ended."""
        self._call.cancel()

    def _time_left_to_send(self) -> float:
        """Return the seconds left for a peer that continues to send; 0 or less if there are none."""
        now = self._clock.seconds()
        if self._received < MIN_RATE * (now - self._began):
            return 0.0
        return min(self._last + self._timeout, self._began + DISCARD_TIMEOUT) - now

    def _check(self) -> None:
        now = self._clock.seconds()
        self._taken += self._progress.count_received()
        if self._taken >= MIN_RATE * (now - self._since):
            self._since, self._taken = now, 0
        left = self._since + self._patience - now
        if self._received and (rest := self._time_left_to_send()) > 0:
            self._call = self._clock.callLater(rest, self._check)
        elif left >= SOON and unsent_bytes(self._transport):
            self._call = self._clock.callLater(min(left, self._timeout), self._check)
        else:
            self._transport.abortConnection()
