"""Measures how many bytes a peer receives, and detects a peer that receives none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from esxiproxy.net.sockets.send_queue import unsent_bytes
from esxiproxy.net.sockets.tcp_info import TCPInfo, tcp_info

_CHECKS = 16
"""Checks per timeout: a stall of a busy transport is detected late by up to this part of the timeout."""
_OVERDUE = 1.5
"""Intervals between two checks after which a peer that has received nothing was found by one of them."""
SOON = 0.001
"""Seconds before a deadline at which it counts as reached, because floating point sums are not exact."""


class Progress:
    """A counter of the bytes that the peer of one transport has received.

    For TCP on Linux, these are the acknowledged bytes.  In other cases (unix sockets, other platforms,
    transports without a socket), a byte counts as received when it has left the write buffer and the kernel's
    send queue.  ``written`` is the number of bytes that were written to the transport so far.  Without it,
    bytes that are written between two calls hide the same number of received bytes.
    """

    __slots__ = ("_reading", "_transport")

    def __init__(self, transport: Any, written: int = 0, peer: TCPInfo | None = None) -> None:
        self._transport = transport
        self._reading = self._read(written, peer)

    def count_received(self, written: int = 0, peer: TCPInfo | None = None) -> int:
        """Return the number of bytes that the peer has received since the last call.

        ``peer`` is the TCP_INFO of the transport, if the caller has read it already.
        """
        (counted, before), self._reading = self._reading, self._read(written, peer)
        return max(0, self._reading[1] - before) if counted is self._reading[0] else 0

    def _read(self, written: int, peer: TCPInfo | None) -> tuple[bool, int]:
        peer = peer or tcp_info(self._transport)
        if peer is not None:
            return True, peer.acknowledged
        return False, written - unsent_bytes(self._transport)


class StallTimer:
    """A timer that calls ``stalled`` when a peer receives nothing for ``timeout`` seconds.

    The time is measured only while the write buffer of the transport is full.

    A busy transport becomes full and writable many times a second.  Therefore the timer continues to run
    when the transport becomes writable, and the kernel is queried when the timer fires.
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
        """Start to measure: the write buffer of the transport is full."""
        self._since = self._clock.seconds()
        if self._call is None:
            self._progress = Progress(self._transport)
            self._arm(self.timeout)

    def unblocked(self) -> None:
        """Stop to measure: the transport is writable again."""
        self._since = None

    @property
    def is_overdue(self) -> bool:
        """Whether the peer had received nothing at the last check, with the write buffer full since then."""
        waited = 0.0 if self._since is None else self._clock.seconds() - self._since
        return waited > _OVERDUE * self.timeout / _CHECKS

    def cancel(self) -> None:
        """Stop to measure, and cancel the timer."""
        self._since = self._progress = None
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _arm(self, left: float) -> None:
        self._call = self._clock.callLater(min(left, self.timeout / _CHECKS), self._check)

    def _check(self) -> None:
        self._call = None
        if self._since is None or self._progress is None:
            self._progress = None
            return
        now = self._clock.seconds()
        if self._progress.count_received():
            self._since = now
        left = self._since + self.timeout - now
        if left < SOON:
            self._since = self._progress = None
            self._stalled()
        else:
            self._arm(left)
