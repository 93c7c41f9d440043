"""Sends pings on one leg, and detects a peer that does not answer."""

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
    """Pings a leg every ``interval`` seconds, and calls ``dead`` if no byte follows within ``timeout``.

    The first call of ``ping`` sends the first ping.

    Any received byte counts as an answer, not only the pong.  The timeout starts when the ping is written to
    the transport: after ``sendPing``, if a data frame is being written.  It is extended while the leg is
    paused or blocked, while the peer's TCP window is closed, and while the peer acknowledges queued bytes,
    since a slow reader has not read the ping yet.
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
        self._on_dead = dead
        self._payload = b""
        self._written_at = 0.0
        self.round_trip: float | None = None
        """Seconds between the last ping and its pong."""
        self._next_call: IDelayedCall | None = None
        self._timeout_call: IDelayedCall | None = None
        self._progress: Progress | None = None

    def stop(self) -> None:
        """Send no more pings."""
        for call in (self._next_call, self._timeout_call):
            if call is not None and call.active():
                call.cancel()

    def ping(self) -> None:
        """Send a ping now, and then one every ``interval`` seconds."""
        self._next_call = self._clock.callLater(self._interval, self.ping)
        if self._timeout_call is not None:
            if not self._leg.heard:
                return  # another ping would restart the timeout
            self._timeout_call.cancel()
            self._timeout_call = None
        self._payload = os.urandom(8)
        self._leg.sendPing(self._payload)

    def control_written(self, opcode: int) -> None:
        """Start the timeout if the control frame that was written is a ping."""
        if opcode == PING and self._timeout_call is None:
            self._written_at = self._clock.seconds()
            self._leg.heard = False
            transport = self._leg.transport
            self._progress = Progress(transport, peer=tcp_info(transport))
            self._timeout_call = self._clock.callLater(self._timeout, self._on_timeout)

    def pong_received(self, payload: bytes) -> None:
        """Measure the round-trip time; ignore an unsolicited pong (RFC 6455 5.5.3)."""
        if payload == self._payload and self._timeout_call is not None:
            self.round_trip = self._clock.seconds() - self._written_at

    def _on_timeout(self) -> None:
        self._timeout_call = None
        leg = self._leg
        if leg.paused or leg.blocked or (not leg.heard and self._ping_is_unread()):
            self._timeout_call = self._clock.callLater(self._timeout, self._on_timeout)
        elif not leg.heard:
            self._on_dead(leg.side)

    def _ping_is_unread(self) -> bool:
        """Return whether the ping is still queued in the kernel, since the peer reads slowly or never."""
        transport = self._leg.transport
        peer = tcp_info(transport)
        if peer is not None and peer.window_closed:
            return True
        taken = self._progress is not None and self._progress.count_received(peer=peer) > 0
        return taken and bool(unsent_bytes(transport) if peer is None else peer.has_unacked)
