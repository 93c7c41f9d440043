"""Detects a peer that acknowledges none of the bytes in the kernel's send queue."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

from twisted.internet.interfaces import IReactorTime

from esxiproxy.core.keepalive import SHORTEST
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.core.websocket.closing import Side
from esxiproxy.net.console.leg import Leg
from esxiproxy.net.sockets.progress import Progress
from esxiproxy.net.sockets.send_queue import unsent_bytes
from esxiproxy.net.sockets.tcp_info import tcp_info
from esxiproxy.net.sockets.timers import Timers

_CHECKS = 4
"""Checks within the shorter of the two timeouts; either may be detected by one such part late."""


@lru_cache(maxsize=64)
def check_interval(stall_timeout: float, tcp_keepalive: float | None) -> float:
    """Return the seconds between two checks of a session with these limits."""
    return min(stall_timeout, _keepalive_timeout(tcp_keepalive)) / _CHECKS


def _keepalive_timeout(tcp_keepalive: float | None) -> float:
    return math.inf if tcp_keepalive is None else max(SHORTEST, tcp_keepalive)


class _PendingAck:
    """The unacknowledged bytes of one peer.

    ``since`` is the time of its last acknowledgement.  ``asked`` is the time since which the kernel probes it
    without an answer, None if it does not.
    """

    __slots__ = ("asked", "progress", "since")

    def __init__(self, progress: Progress, since: float) -> None:
        self.progress = progress
        self.since = since
        self.asked: float | None = None


class StallDetector:
    """Checks the send queues of both legs periodically.

    A leg is not ``blocked`` while its bytes fit into the kernel's send queue, so flow control does not see
    that the peer acknowledges none of them.  ``stalled`` is called when a peer has acknowledged no byte for
    ``stall_timeout``.  ``dead`` is called when TCP has received nothing at all for ``tcp_keepalive``, since
    the kernel's keepalive does not probe a peer that has unacknowledged bytes.

    ``checking`` is called before each check.

    TCP_USER_TIMEOUT is not set.  It would also end a living peer with a closed window, and Linux applies it
    in place of the number of keepalive probes.
    """

    __slots__ = (
        "_clock",
        "_interval",
        "_keepalive_timeout",
        "_legs",
        "_limits",
        "_on_check",
        "_on_dead",
        "_on_stall",
        "_pending",
        "_timers",
    )

    def __init__(
        self,
        legs: Mapping[Side, Leg],
        clock: IReactorTime,
        timers: Timers,
        limits: SessionLimits,
        stalled: Callable[[Side], None],
        dead: Callable[[Side], None],
        checking: Callable[[], None] = lambda: None,
    ) -> None:
        self._legs = legs
        self._clock = clock
        self._timers = timers
        self._limits = limits
        self._on_stall = stalled
        self._on_dead = dead
        self._on_check = checking
        self._keepalive_timeout = _keepalive_timeout(limits.tcp_keepalive)
        self._interval = check_interval(limits.stall_timeout, limits.tcp_keepalive)
        self._pending: dict[Side, _PendingAck] = {}

    @property
    def is_stalled(self) -> bool:
        """Whether a peer has acknowledged nothing between the last two checks."""
        now = self._clock.seconds()
        return any(now - wait.since > self._interval for wait in self._pending.values())

    def start(self) -> None:
        """Check periodically until the timers are cleared."""
        self._timers.arm("send queues", self._interval, self.check)

    def check(self) -> None:
        """Check the send queues now, and then periodically."""
        self.start()
        self._on_check()
        for side, leg in self._legs.items():
            end = self._expired(side, leg)
            if end is not None:
                return end(side)

    def _expired(self, side: Side, leg: Leg) -> Callable[[Side], None] | None:
        """Return the callback for a dead or stalled leg, or None while it may still acknowledge."""
        peer = tcp_info(leg.transport)
        if not (unsent_bytes(leg.transport) if peer is None else peer.has_unacked):
            self._pending.pop(side, None)
            return None
        now = self._clock.seconds()
        written = self._legs[side.other].octets
        wait = self._pending.get(side)
        if wait is None:
            wait = self._pending[side] = _PendingAck(Progress(leg.transport, written, peer), now)
        elif wait.progress.count_received(written, peer):
            wait.since, wait.asked = now, None
        if peer is None:  # not TCP: nothing shows whether the peer lives
            return self._on_stall if now - wait.since >= self._limits.stall_timeout else None
        asked = 0.0 if wait.asked is None else now - wait.asked
        unheard = wait.asked is not None and peer.seconds_since_heard >= asked
        # The peer was probed for half of the time at least, and the next check would be too late.
        if (
            unheard
            and asked >= self._keepalive_timeout / 2
            and peer.seconds_since_heard >= self._keepalive_timeout - self._interval
        ):
            return self._on_dead
        if now - wait.since >= self._limits.stall_timeout:
            return self._on_stall
        if not unheard:
            wait.asked = now if peer.has_unanswered_probe else None
        return None
