"""The one virtual machine of a simulated host: its screen, and the timer that moves it for its viewers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from esxiproxy.sim.screen.region import Rect
from esxiproxy.sim.screen.screen import Screen


class Viewer(Protocol):
    """Who looks at the screen."""

    def damage(self, rect: Rect) -> None:
        """The picture changed here."""

    def flush(self) -> None:
        """A step of the picture is complete: now is the time to send it."""


class VirtualMachine:
    """A screen that all consoles of a host share, as they do on ESXi."""

    def __init__(
        self, screen: Screen, clock: IReactorTime, interval: float, now: Callable[[], datetime]
    ) -> None:
        self.screen = screen
        self.interval = interval
        self.clock = clock
        self._viewers: set[Viewer] = set()
        self._now = now
        self._timer = LoopingCall(self._tick)
        self._timer.clock = clock
        screen.tick(now())

    @property
    def viewers(self) -> int:
        """How many look."""
        return len(self._viewers)

    def attach(self, viewer: Viewer) -> None:
        """Somebody looks: the first one starts the timer."""
        self._viewers.add(viewer)
        self.screen.listeners.add(viewer.damage)
        if self.interval > 0 and not self._timer.running:
            self._timer.start(self.interval, now=False)

    def detach(self, viewer: Viewer) -> None:
        """Somebody looks no more: the last one stops the timer."""
        self._viewers.discard(viewer)
        self.screen.listeners.discard(viewer.damage)
        if not self._viewers and self._timer.running:
            self._timer.stop()

    def _tick(self) -> None:
        self.screen.tick(self._now())
        for viewer in tuple(self._viewers):
            viewer.flush()
