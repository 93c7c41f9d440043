"""Ends a connection that was idle for a time between two uses."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class IdleTimer:
    """The timer of a connection that may be idle for ``seconds``.

    A busy connection is used again and again.  So its timer is not cancelled by a use: when it expires, it
    waits for the rest of the time since the last use.
    """

    __slots__ = ("_check", "_clock", "_seconds", "_since")

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._since: float | None = None
        self._check: IDelayedCall | None = None

    def start(self, on_idle: Callable[[], None]) -> None:
        """Note that the connection is idle from now on; its ``on_idle``, always the same, ends it."""
        self._since = self._clock.seconds()
        if self._check is None:
            self._check = self._clock.callLater(self._seconds, self._expire, on_idle)

    def stop(self) -> None:
        """Note that the connection is used."""
        self._since = None

    def cancel(self) -> None:
        """Cancel the timer, since the connection ends or is used for good."""
        self._since = None
        check, self._check = self._check, None
        if check is not None:
            check.cancel()

    def _expire(self, on_idle: Callable[[], None]) -> None:
        self._check = None
        if self._since is None:
            return
        rest = self._since + self._seconds - self._clock.seconds()
        if rest > 0:
            self._check = self._clock.callLater(rest, self._expire, on_idle)
        else:
            self._since = None
            on_idle()
