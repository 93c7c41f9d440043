"""The running timers of one session, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime


class Armed(Protocol):
    """A call that is to come, such as an IDelayedCall."""

    def active(self) -> bool:
        """Whether it is still to come."""

    def cancel(self) -> None:
        """Do not, after all."""


class Timers:
    """At most one timer of each name; arming it again takes the place of the one before."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._calls: dict[str, Armed] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._calls

    def arm(self, name: str, seconds: float, call: Callable[..., None], *args: Any) -> None:
        """Call that in so many seconds."""
        self.disarm(name)
        self._calls[name] = self._clock.callLater(max(0.0, seconds), call, *args)

    def adopt(self, name: str, call: Armed) -> None:
        """Take over a call that somebody else has armed."""
        self.disarm(name)
        self._calls[name] = call

    def disarm(self, name: str) -> None:
        """Do not, after all."""
        call = self._calls.pop(name, None)
        if call is not None and call.active():
            call.cancel()

    def clear(self) -> None:
        """None of them any more."""
        for name in list(self._calls):
            self.disarm(name)
