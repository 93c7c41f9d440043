"""Looks now and then whether both peers of a session take what waits for them in the kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

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
"""How often within the shorter of the two times: either end may come that part late."""


class _PendingAck:
    """Bytes that one peer has not taken: since when it has taken none of them, or answered nothing."""

    __slots__ = ("asked", "progress", "since")

    def __init__(self, progress: Progress, since: float) -> None:
        self.progress = progress
        self.since = since
        self.asked: float | None = None


class StallDetector:
    """Ends a wait that nobody else sees: no leg is ``blocked`` by bytes that the kernel has room for.

    ``stalled`` is called for a peer that took nothing of them for ``stall_timeout``, ``gone`` for one that
    TCP has had no answer from for ``tcp_keepalive``: the kernel's own keepalive does not ask a peer that
    bytes wait for.  TCP_USER_TIMEOUT cannot tell the two apart.  It ends a living peer with a closed window,
    too, and once it is set, Linux asks it instead of the number of keepalive's probes; so it is left alone.
    """

    __slots__ = (
        "_clock",
        "_dead",
        "_every",
        "_legs",
        "_limits",
        "_pending",
        "_stalled",
        "_timers",
        "_within",
    )

    def __init__(
        self,
        legs: Mapping[Side, Leg],
        clock: IReactorTime,
        timers: Timers,
        limits: SessionLimits,
        stalled: Callable[[Side], None],
        gone: Callable[[Side], None],
    ) -> None:
        self._legs = legs
        self._clock = clock
        self._timers = timers
        self._limits = limits
        self._stalled = stalled
        self._dead = gone
        self._within = math.inf if limits.tcp_keepalive is None else max(SHORTEST, limits.tcp_keepalive)
        self._every = min(limits.stall_timeout, self._within) / _CHECKS
        self._pending: dict[Side, _PendingAck] = {}

    def start(self) -> None:
        """From here on until the timers are cleared."""
        self._timers.arm("look", self._every, self._check)

    def _check(self) -> None:
        self.start()
        for side, leg in self._legs.items():
            end = self._verdict(side, leg)
            if end is not None:
                return end(side)

    def _verdict(self, side: Side, leg: Leg) -> Callable[[Side], None] | None:
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
        if peer is None:  # no TCP, so nobody says whether it is still there
            return self._stalled if now - wait.since >= self._limits.stall_timeout else None
        asked = 0.0 if wait.asked is None else now - wait.asked
        unheard = wait.asked is not None and peer.seconds_since_heard >= asked
        # It has had half of the time for an answer, at least; the next look would be too late.
        if unheard and asked >= self._within / 2 and peer.seconds_since_heard >= self._within - self._every:
            return self._dead
        if now - wait.since >= self._limits.stall_timeout:
            return self._stalled
        if not unheard:
            wait.asked = now if peer.has_unanswered_probe else None
        return None
