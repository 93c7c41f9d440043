"""Flow control of an HTTP connection: whether its transport takes more, and who wants it not to be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer, IReactorTime
from zope.interface import implementer

from esxiproxy.net.timers import Timers


def _nothing() -> None:
    """Nobody is interested."""


@implementer(IPushProducer)
class HttpFlow:
    """Stands as the producer of one transport, for as long as HTTP is spoken on it.

    ``blocked`` says that the transport takes no more; ``changed`` is called when that changes.  Reading is
    paused while there is a reason to; a paused transport sees neither FIN nor RST, so whoever gives a reason
    has a deadline.  ``stalled`` is called when the transport was blocked for ``timeout`` seconds on end.
    """

    def __init__(self, transport: Any, clock: IReactorTime, timeout: float) -> None:
        self._transport = transport
        self._timers = Timers(clock)
        self._reasons: set[str] = set()
        self._installed = False
        self.timeout = timeout
        self.blocked = False
        self.changed: Callable[[], None] = _nothing
        self.stalled: Callable[[], None] = _nothing

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
        self._timers.clear()
        self.blocked = False
        self.part()
        if self._installed:
            self._installed = False
            self._transport.unregisterProducer()
        self._release()

    def part(self) -> None:
        """The exchange is over that wanted to know."""
        self.changed = self.stalled = _nothing

    def lost(self) -> None:
        """The connection has ended."""
        self._timers.clear()
        self.part()
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
        self._timers.arm("stall", self.timeout, self._stall)
        self.changed()

    def resumeProducing(self) -> None:
        self.blocked = False
        self._timers.disarm("stall")
        self.changed()

    def stopProducing(self) -> None:
        """The transport is going away, and will say so itself."""

    def _stall(self) -> None:
        self.stalled()
