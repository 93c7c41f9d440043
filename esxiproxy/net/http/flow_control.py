"""Flow control of an HTTP connection: whether its transport takes more, and who wants it not to be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer, IReactorTime
from zope.interface import implementer

from esxiproxy.net.sockets.progress import StallTimer


def _nothing() -> None:
    """Nobody is interested."""


@implementer(IPushProducer)
class HttpFlow:
    """Stands as the producer of one transport, for as long as HTTP is spoken on it.

    ``blocked`` says that the transport takes no more; ``changed`` is called when that changes.  Reading is
    paused while there is a reason to; a paused transport sees neither FIN nor RST, so whoever gives a reason
    has a deadline.  ``stalled`` is called when the transport is blocked and its peer has taken no octet for
    ``timeout`` seconds.
    """

    def __init__(self, transport: Any, clock: IReactorTime, timeout: float) -> None:
        self._transport = transport
        self._clock = clock
        self._reasons: set[str] = set()
        self._installed = False
        self.timeout = timeout
        self.blocked = False
        self.changed: Callable[[], None] = _nothing
        self.stalled: Callable[[], None] = _nothing
        self._on_stall: StallTimer | None = None

    @property
    def paused(self) -> bool:
        """Whether the transport is not read."""
        return bool(self._reasons)

    def install(self) -> None:
        """From here on the transport says when it takes no more."""
        if not self._installed:
            self._installed = True
            self._transport.registerProducer(self, True)

    def remove(self) -> None:
        """The transport is somebody else's from here on, or is being closed: it is read again."""
        self._forget()
        self.blocked = False
        self.forget_exchange()
        if self._installed:
            self._installed = False
            self._transport.unregisterProducer()
        self._release()

    def forget_exchange(self) -> None:
        """The exchange is over that wanted to know."""
        self.changed = self.stalled = _nothing

    def lost(self) -> None:
        """The connection has ended."""
        self._forget()
        self.forget_exchange()
        self._installed = False
        self._reasons.clear()

    def pause(self, reason: str, wanted: bool = True) -> None:
        """Read nothing for this reason, or not for this reason any more."""
        before = self.paused
        if wanted:
            self._reasons.add(reason)
        else:
            self._reasons.discard(reason)
        if self.paused and not before:
            self._transport.pauseProducing()
        elif before and not self.paused:
            self._transport.resumeProducing()

    def _release(self) -> None:
        for reason in list(self._reasons):
            self.pause(reason, False)

    def pauseProducing(self) -> None:
        self.blocked = True
        if self._on_stall is None:  # most connections never need one
            self._on_stall = StallTimer(self._transport, self._clock, self.timeout, self._end)
        self._on_stall.timeout = self.timeout
        self._on_stall.blocked()
        self.changed()

    def resumeProducing(self) -> None:
        self.blocked = False
        if self._on_stall is not None:
            self._on_stall.unblocked()
        self.changed()

    def stopProducing(self) -> None:
        """The transport is going away, and will say so itself."""

    def _forget(self) -> None:
        stall, self._on_stall = self._on_stall, None
        if stall is not None:
            stall.cancel()

    def _end(self) -> None:
        self.stalled()
