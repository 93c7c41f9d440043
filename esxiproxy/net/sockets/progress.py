"""Progress of a peer: the octets that it takes, and the timer that ends a peer that takes none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from esxiproxy.net.sockets.send_queue import unsent_bytes
from esxiproxy.net.sockets.tcp_info import TCPInfo, tcp_info

_LOOKS = 16
"""Looks within one timeout: a stall of a busy transport may be found that part late."""
SOON = 0.001
"""Seconds before a deadline at which it counts as reached: sums of floating point numbers are not exact."""


class Progress:
    """The octets that the peer of one transport took between two looks.

    TCP on Linux counts the octets that the peer acknowledged.  Elsewhere (unix sockets, other platforms,
    transports without a socket) an octet is taken when it has left the write buffer and the kernel's queue.
    There, ``written`` is the number of octets that were written to the transport so far, if it is known:
    without it, octets that are written between two looks hide as many that were taken.
    """

    __slots__ = ("_reading", "_transport")

    def __init__(self, transport: Any, written: int = 0, peer: TCPInfo | None = None) -> None:
        self._transport = transport
        self._reading = self._read(written, peer)

    def taken(self, written: int = 0, peer: TCPInfo | None = None) -> int:
        """Return the number of octets that the peer took since the last call.

        ``peer`` is what the kernel says of the peer, where the caller has asked it already.
        """
        (counted, before), self._reading = self._reading, self._read(written, peer)
        return max(0, self._reading[1] - before) if counted is self._reading[0] else 0

    def _read(self, written: int, peer: TCPInfo | None) -> tuple[bool, int]:
        peer = peer or tcp_info(self._transport)
        if peer is not None:
            return True, peer.acknowledged
        return False, written - unsent_bytes(self._transport)


class StallTimer:
    """Calls ``stalled`` when a blocked transport's peer takes nothing for ``timeout`` seconds.

    A busy transport is blocked and unblocked all the time.  So the timer runs on when the transport is
    unblocked, and the kernel is asked when the timer fires, not when a frame is written.
    """

    __slots__ = ("_call", "_clock", "_progress", "_since", "_stalled", "_transport", "timeout")

    def __init__(
        self, transport: Any, clock: IReactorTime, timeout: float, stalled: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._stalled = stalled
        self._since: float | None = None
        self._call: IDelayedCall | None = None
        self._progress: Progress | None = None
        self.timeout = timeout

    def blocked(self) -> None:
        """Start to measure: the transport takes no more."""
        self._since = self._clock.seconds()
        if self._call is None:
            self._progress = Progress(self._transport)
            self._arm(self.timeout)

    def unblocked(self) -> None:
        """Stop to measure: the transport takes more again."""
        self._since = None

    def cancel(self) -> None:
        """Stop to measure for good."""
        self._since = self._progress = None
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _arm(self, left: float) -> None:
        self._call = self._clock.callLater(min(left, self.timeout / _LOOKS), self._look)

    def _look(self) -> None:
        self._call = None
        if self._since is None or self._progress is None:
            self._progress = None
            return
        now = self._clock.seconds()
        if self._progress.taken():
            self._since = now
        left = self._since + self.timeout - now
        if left < SOON:
            self._since = self._progress = None
            self._stalled()
        else:
            self._arm(left)
