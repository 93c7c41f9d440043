"""Flow control of one HTTP connection: why it is not read, and whether its transport is full.

A large body is forwarded from one connection to the other by a fast path.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Protocol

from twisted.internet.interfaces import IPushProducer, IReactorTime
from zope.interface import implementer

from esxiproxy.core.http.body import Body
from esxiproxy.core.http.chunked_body import ChunkedBody
from esxiproxy.net.sockets.progress import StallTimer
from esxiproxy.net.transport.constants import READ_SIZE
from esxiproxy.net.transport.fast_path import body_fast_path


class PauseReason(IntEnum):
    """Why a connection is not read.

    ``HttpFlow`` keeps the reasons of its connection as bits.  The exchange sets and clears them while it
    runs, and ``HttpDownstream`` between two exchanges.  A paused transport reports neither FIN nor RST, so
    each reason has a deadline.

    ``HELD``
        The client has sent more than ``MAX_EARLY`` bytes that cannot be forwarded yet.  Before there is an
        upstream, ``stall_timeout`` ends the wait (``HttpDeadlines.request_held``).  Bytes behind the request
        wait for the end of the exchange, which has its own deadlines.
    ``PEER_BLOCKED``
        The transport of the exchange's other connection is full.  The stall timer of that connection ends
        the wait.
    ``NEXT_TURN``
        Chunks that were read are forwarded in the next turn of the reactor, which a timer of 0 s begins.
    """

    HELD = 1
    PEER_BLOCKED = 2
    NEXT_TURN = 4


class FlowObserver(Protocol):
    """The exchange on a connection, or the connection itself between two exchanges."""

    def flow_changed(self, flow: HttpFlow) -> None:
        """Handle that ``flow.blocked`` has changed."""

    def flow_stalled(self, flow: HttpFlow) -> None:
        """Handle that the peer has acknowledged nothing for ``flow.timeout`` seconds while blocked."""


@implementer(IPushProducer)
class HttpFlow:
    """The producer of one transport, for as long as the connection carries HTTP.

    ``observer`` gets the changes and stalls.  ``blocked`` is whether the transport's buffer is full.
    ``paused`` is whether the transport is not read.
    ``timeout`` is the time in seconds that the peer has for acknowledging a byte while the transport is
    blocked.
    """

    def __init__(self, transport: Any, clock: IReactorTime, timeout: float) -> None:
        self._transport = transport
        self._clock = clock
        self._reasons = 0
        self._installed = False
        self.observer: FlowObserver | None = None
        self._stall_timer: StallTimer | None = None
        self._fast_body: Body | None = None
        self.timeout = timeout
        self.blocked = False
        self.paused = False

    def install(self) -> None:
        """Register with the transport, once."""
        if not self._installed:
            self._installed = True
            self._transport.registerProducer(self, True)

    def remove(self) -> None:
        """Unregister from the transport and resume reading: another protocol takes it, or it is closed."""
        self._cancel_stall_timer()
        self.blocked = False
        self.unobserve()
        if self._installed:
            self._installed = False
            self._transport.unregisterProducer()
        self.resume()

    def lost(self) -> None:
        """Forget everything, since the connection has ended."""
        self._cancel_stall_timer()
        self.unobserve()
        self._installed = False
        self._reasons = 0
        self.paused = False

    def unobserve(self) -> None:
        """Report to no observer any more, and end the fast path of its body."""
        self.observer = None
        if self._fast_body is not None:
            self._end_fast_path()

    def pass_on(self, body: Body, target: HttpFlow) -> bool:
        """Let the fast path forward the rest of a body to ``target``, if the body is large.

        Call it after each part of the body that Python has forwarded.  Return whether a fast path begins.
        """
        if body.is_complete:
            self._end_fast_path()
        elif body is not self._fast_body and _is_large(body):
            self._fast_body = body
            if (fast_path := body_fast_path(body, self._transport, target._transport)) is not None:
                self._transport.set_fast_path(fast_path)
                return True
        return False

    def _end_fast_path(self) -> None:
        """Read the transport in Python again, if the fast path was to forward a body."""
        if self._fast_body is not None:
            self._fast_body = None
            if hasattr(type(self._transport), "set_fast_path"):
                self._transport.set_fast_path(None)

    def set_paused(self, reason: PauseReason, paused: bool) -> None:
        """Set or clear one reason; read the transport if none is left."""
        before = self._reasons
        self._reasons = before | reason if paused else before & ~reason
        if paused and not before:
            self.paused = True
            self._transport.pauseProducing()
        elif before and not self._reasons:
            self.paused = False
            self._transport.resumeProducing()

    def resume(self) -> None:
        """Clear all reasons."""
        if self._reasons:
            self._reasons = 0
            self.paused = False
            self._transport.resumeProducing()

    def pauseProducing(self) -> None:
        self.blocked = True
        if self._stall_timer is None:  # most connections never need one
            self._stall_timer = StallTimer(self._transport, self._clock, self.timeout, self._on_stall)
        self._stall_timer.timeout = self.timeout
        self._stall_timer.blocked()
        self._report_change()

    def resumeProducing(self) -> None:
        self.blocked = False
        if self._stall_timer is not None:
            self._stall_timer.unblocked()
        self._report_change()

    def stopProducing(self) -> None:
        """Do nothing: the transport reports its end to the protocol."""

    def _report_change(self) -> None:
        if self.observer is not None:
            self.observer.flow_changed(self)

    def _on_stall(self) -> None:
        if self.observer is not None:
            self.observer.flow_stalled(self)

    def _cancel_stall_timer(self) -> None:
        timer, self._stall_timer = self._stall_timer, None
        if timer is not None:
            timer.cancel()


def _is_large(body: Body) -> bool:
    """Return whether several more reads are likely to pass unchanged, so that a fast path pays off."""
    if not body.verbatim:
        return False
    return body.left > READ_SIZE or (body.octets > READ_SIZE and isinstance(body, ChunkedBody))
