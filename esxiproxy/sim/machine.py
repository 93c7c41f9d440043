"""The virtual machine of a simulated host: its screen, and the timer that updates it for viewers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import count
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from esxiproxy.sim.screen.region import Rect
from esxiproxy.sim.screen.screen import Screen


class Viewer(Protocol):
    """A viewer of the screen."""

    client: str
    """The IP address of the connection."""
    user: str
    """The user that asked for the ticket."""

    def damage(self, rect: Rect) -> None:
        """Mark a rectangle as changed."""

    def flush(self) -> None:
        """Send the changes of a complete step."""

    def end(self, code: int, reason: str) -> None:
        """Close the viewer's connection with this close code and reason."""


class VirtualMachine:
    """A machine with one screen, which all of its consoles share as on ESXi."""

    def __init__(
        self,
        screen: Screen,
        clock: IReactorTime,
        interval: float,
        now: Callable[[], datetime],
        name: str = "simulated VM",
    ) -> None:
        self.screen = screen
        self.name = name
        self.interval = interval
        self.clock = clock
        self._viewers: dict[Viewer, str] = {}
        self._labels = count(1)
        self._now = now
        self._timer = LoopingCall(self._tick)
        self._timer.clock = clock
        screen.tick(now())

    @property
    def viewers(self) -> int:
        """The number of viewers."""
        return len(self._viewers)

    @property
    def consoles(self) -> Mapping[str, Viewer]:
        """The viewers by their labels, the oldest first."""
        return {label: viewer for viewer, label in self._viewers.items()}

    def attach(self, viewer: Viewer) -> None:
        """Add a viewer; the first one starts the timer."""
        self._viewers[viewer] = f"mks-{next(self._labels)}"
        self.screen.listeners.add(viewer.damage)
        if self.interval > 0 and not self._timer.running:
            self._timer.start(self.interval, now=False)

    def detach(self, viewer: Viewer) -> None:
        """Remove a viewer; the last one stops the timer."""
        self._viewers.pop(viewer, None)
        self.screen.listeners.discard(viewer.damage)
        if not self._viewers and self._timer.running:
            self._timer.stop()

    def end_all(self, code: int, reason: str) -> None:
        """Close every viewer's connection."""
        for viewer in tuple(self._viewers):
            viewer.end(code, reason)

    def draw(self) -> None:
        """Draw the next step of the picture."""
        self.screen.tick(self._now())

    def resize(self, width: int, height: int) -> None:
        """Give the screen another size."""
        self.screen.resize(width, height)
        self.draw()

    def _tick(self) -> None:
        self.draw()
        for viewer in tuple(self._viewers):
            viewer.flush()
