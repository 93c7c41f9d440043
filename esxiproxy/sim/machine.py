"""The virtual machine of a simulated host: its screen, and the timer that updates it for viewers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from esxiproxy.sim.screen.region import Rect
from esxiproxy.sim.screen.screen import Screen


class Viewer(Protocol):
    """A viewer of the screen."""

    def damage(self, rect: Rect) -> None:
        """Mark a rectangle as changed."""

    def flush(self) -> None:
        """Send the changes of a complete step."""


class VirtualMachine:
    """A machine with one screen, which all consoles of the host share as on ESXi."""

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
        """The number of viewers."""
        return len(self._viewers)

    def attach(self, viewer: Viewer) -> None:
        """Add a viewer; the first one starts the timer."""
        self._viewers.add(viewer)
        self.screen.listeners.add(viewer.damage)
        if self.interval > 0 and not self._timer.running:
            self._timer.start(self.interval, now=False)

    def detach(self, viewer: Viewer) -> None:
        """Remove a viewer; the last one stops the timer."""
        self._viewers.discard(viewer)
        self.screen.listeners.discard(viewer.damage)
        if not self._viewers and self._timer.running:
            self._timer.stop()

    def _tick(self) -> None:
        self.screen.tick(self._now())
        for viewer in tuple(self._viewers):
            viewer.flush()
