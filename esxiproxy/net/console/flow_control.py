"""Flow control between two legs: who cannot write is the reason why the other is not read."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer, IReactorTime
from zope.interface import implementer

from esxiproxy.core.websocket.closing import Side
from esxiproxy.net.console.leg import Leg
from esxiproxy.net.sockets.progress import StallTimer


@implementer(IPushProducer)
class LegFlowControl:
    """Stands as the producer of a leg's transport, and is its twin's tap.

    The twin itself is no producer of that transport: a producer is stopped when its transport goes, and a
    stopped transport is closed, before ``connectionLost`` has said why.

    A paused transport sees neither FIN nor RST, so every pause has an end: ``stalled`` is called, with the
    leg's side, when its peer has taken no octet for ``timeout`` seconds.  A slow reader is none.
    """

    def __init__(
        self, leg: Leg, twin: Leg, clock: IReactorTime, timeout: float, stalled: Callable[[Side], None]
    ) -> None:
        self._leg = leg
        self._peer = twin
        self._clock = clock
        self._timeout = timeout
        self._stalled = stalled
        self._stall: StallTimer | None = None

    def install(self) -> None:
        """From here on the leg's transport says when it takes no more."""
        self._leg.transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self._leg.blocked = True
        if self._stall is None:  # most legs never need one
            self._stall = StallTimer(self._leg.transport, self._clock, self._timeout, self._end)
        self._stall.blocked()
        twin = self._peer
        if not twin.paused and not twin.lost:
            twin.paused = True
            twin.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._leg.blocked = False
        if self._stall is not None:
            self._stall.unblocked()
        if self._leg.held and not self._leg.mid_frame():
            self._leg.write_held()
        self._resume_peer()

    def stopProducing(self) -> None:
        """The transport is going away, and will say so itself."""

    def remove(self) -> None:
        """Nothing more is relayed to this leg; whoever waits for it goes on."""
        self._leg.blocked = False
        self.forget()
        if not self._leg.lost:
            self._leg.transport.unregisterProducer()
        self._resume_peer()

    def forget(self) -> None:
        """The stall is no longer of interest: the session is being closed, under a deadline of its own."""
        stall, self._stall = self._stall, None
        if stall is not None:
            stall.cancel()

    def _resume_peer(self) -> None:
        twin = self._peer
        if twin.paused:
            twin.paused = False
            if not twin.lost:
                twin.transport.resumeProducing()

    def _end(self) -> None:
        self._stalled(self._leg.side)
