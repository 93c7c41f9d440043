"""Flow control between two legs: a leg is not read while its peer cannot be written to."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer, IReactorTime
from zope.interface import implementer

from esxiproxy.core.websocket.closing import Side
from esxiproxy.net.console.leg import Leg
from esxiproxy.net.sockets.progress import StallTimer


@implementer(IPushProducer)
class LegFlowControl:
    """The producer of one leg's transport: it pauses and resumes the peer leg.

    The peer's transport is not registered as the producer itself.  Twisted stops the producer of a lost
    transport, which would close the peer before ``connectionLost`` has reported the reason.

    A paused transport reports neither FIN nor RST, so each pause has a deadline.  ``stalled`` is called with
    the leg's side when the remote end has acknowledged no byte for ``timeout`` seconds.  A slow reader does
    not stall.
    """

    def __init__(
        self, leg: Leg, peer: Leg, clock: IReactorTime, timeout: float, stalled: Callable[[Side], None]
    ) -> None:
        self._leg = leg
        self._peer = peer
        self._clock = clock
        self._timeout = timeout
        self._report_stall = stalled
        self._stall_timer: StallTimer | None = None

    @property
    def is_stalled(self) -> bool:
        """Whether the leg is blocked, and its remote end had acknowledged nothing at the last check."""
        return self._stall_timer is not None and self._stall_timer.is_overdue

    def install(self) -> None:
        """Register with the leg's transport."""
        self._leg.transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self._leg.blocked = True
        if self._stall_timer is None:  # most legs never need one
            self._stall_timer = StallTimer(self._leg.transport, self._clock, self._timeout, self._on_stall)
        self._stall_timer.blocked()
        peer = self._peer
        if not peer.paused and not peer.lost:
            peer.paused = True
            peer.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._leg.blocked = False
        if self._stall_timer is not None:
            self._stall_timer.unblocked()
        if self._leg.held and not self._leg.mid_frame():
            self._leg.write_held()
        self._resume_peer()

    def stopProducing(self) -> None:
        """Do nothing: the transport reports its end to the leg."""

    def remove(self) -> None:
        """Unregister, since nothing more is relayed to this leg, and resume the peer."""
        self._leg.blocked = False
        self.stop_timer()
        if not self._leg.lost:
            self._leg.transport.unregisterProducer()
        self._resume_peer()

    def stop_timer(self) -> None:
        """Stop the stall timer, since the closing session has its own deadline."""
        stall, self._stall_timer = self._stall_timer, None
        if stall is not None:
            stall.cancel()

    def _resume_peer(self) -> None:
        peer = self._peer
        if peer.paused:
            peer.paused = False
            if not peer.lost:
                peer.transport.resumeProducing()

    def _on_stall(self) -> None:
        self._report_stall(self._leg.side)
