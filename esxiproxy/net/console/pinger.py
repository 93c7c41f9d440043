"""Pings on one leg, on our own clock."""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from esxiproxy.core.websocket.closing import Side
from esxiproxy.net.console.leg import PING, Leg
from esxiproxy.net.sockets.progress import Progress
from esxiproxy.net.sockets.send_queue import unsent_bytes
from esxiproxy.net.sockets.tcp_info import tcp_info


class Pinger:
    """Pings a leg every ``interval`` seconds, and gives it up when it is silent for ``timeout`` after one.

    Any byte received is life, not only the pong.  The clock starts when the ping is written, which may be
    after it was sent (a data frame was going out), and stands still while the leg is paused or blocked, the
    peer's window is closed, or the peer takes bytes that wait for it: a slow reader has not come to the ping.
    """

    def __init__(
        self,
        leg: Leg,
        clock: IReactorTime,
        interval: float,
        timeout: float,
        dead: Callable[[Side], None],
    ) -> None:
        self._leg = leg
        self._clock = clock
        self._interval = interval
        self._timeout = timeout
        self._dead = dead
        self._payload = b""
        self._written_at = 0.0
        self.round_trip: float | None = None
        """Seconds between the last ping and its pong."""
        self._next: IDelayedCall = clock.callLater(interval, self._ping)
        self._pending: IDelayedCall | None = None
        self._progress: Progress | None = None

    def stop(self) -> None:
        """No more pings."""
        for call in (self._next, self._pending):
            if call is not None and call.active():
                call.cancel()

    def _ping(self) -> None:
        self._next = self._clock.callLater(self._interval, self._ping)
        if self._pending is not None:
            if not self._leg.heard:
                return  # another ping would start the clock anew
            self._pending.cancel()
            self._pending = None
        self._payload = os.urandom(8)
        self._leg.sendPing(self._payload)

    def control_written(self, opcode: int) -> None:
        """A control frame went out: when it is our ping, the pong is due from now on."""
        if opcode == PING and self._pending is None:
            self._written_at = self._clock.seconds()
            self._leg.heard = False
            transport = self._leg.transport
            self._progress = Progress(transport, peer=tcp_info(transport))
            self._pending = self._clock.callLater(self._timeout, self._on_timeout)

    def ponged(self, payload: bytes) -> None:
        """A pong came; ours tells the round-trip time, any other is allowed and means nothing."""
        if payload == self._payload and self._pending is not None:
            self.round_trip = self._clock.seconds() - self._written_at

    def _on_timeout(self) -> None:
        self._pending = None
        leg = self._leg
        if leg.paused or leg.blocked or (not leg.heard and self._waits()):
            self._pending = self._clock.callLater(self._timeout, self._on_timeout)
        elif not leg.heard:
            self._dead(leg.side)

    def _waits(self) -> bool:
        """Return whether the ping waits in the kernel, for a peer that does not read or reads slowly."""
        transport = self._leg.transport
        peer = tcp_info(transport)
        if peer is not None and peer.window_closed:
            return True
        taken = self._progress is not None and self._progress.count_received(peer=peer) > 0
        return taken and bool(unsent_bytes(transport) if peer is None else peer.has_unacked)
