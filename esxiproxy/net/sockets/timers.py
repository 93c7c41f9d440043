"""Keeps the running timers of one session by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime


class Armed(Protocol):
    """A scheduled call, such as an IDelayedCall."""

    def active(self) -> bool:
        """Return whether the call is still scheduled."""

    def cancel(self) -> None:
        """Cancel the call."""


class Timers:
    """Scheduled calls by name; a new call replaces the one with the same name."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._calls: dict[str, Armed] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._calls

    def arm(self, name: str, seconds: float, call: Callable[..., None], *args: Any) -> None:
        """Schedule a call in so many seconds, in place of the one with this name."""
        if name in self._calls:
            self.disarm(name)
        self._calls[name] = self._clock.callLater(max(0.0, seconds), call, *args)

    def adopt(self, name: str, call: Armed) -> None:
        """Keep an already scheduled call under this name."""
        self.disarm(name)
        self._calls[name] = call

    def disarm(self, name: str) -> None:
        """Cancel the call with this name, if it is still scheduled."""
        call = self._calls.pop(name, None)
        if call is not None and call.active():
            call.cancel()

    def clear(self) -> None:
        """Cancel all calls."""
        calls, self._calls = self._calls, {}
        for call in calls.values():
            if call.active():
                call.cancel()
