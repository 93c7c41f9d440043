"""The frames of one session as they pass, by their headers: never a payload, never a mask key.

A session that is not traced pays nothing: a trace puts a walker of its own in the place of each leg's, and
puts a plain one back when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from esxiproxy.core.errors import SessionError
from esxiproxy.core.websocket.closing import Side
from esxiproxy.core.websocket.frames import FrameWalker
from esxiproxy.ops.manhole.table import count

_NAMES = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
_CONTROL, _OPCODE, _FIN, _MASKED, _LENGTH = 0x08, 0x0F, 0x80, 0x80, 0x7F
_CHECK_INTERVAL = 1.0
"""Seconds between two looks at whether the session is still there."""


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What may be seen of a frame (RFC 6455 5.2)."""

    opcode: int
    fin: bool
    length: int
    masked: bool

    def __str__(self) -> str:
        name = _NAMES.get(self.opcode, f"opcode {self.opcode}")
        flags = ("fin" if self.fin else "...", "masked" if self.masked else "")
        return f"{name:<12}  {flags[0]}  {self.length:>9}  {flags[1]}".rstrip()


def header_at(octets: bytes, position: int) -> tuple[FrameHeader, int] | None:
    """The frame header there, and where its payload begins; None when not all of it is there."""
    if len(octets) - position < 2:
        return None
    first, second = octets[position], octets[position + 1]
    start, length = position + 2, second & _LENGTH
    if length >= 126:
        size = 2 if length == 126 else 8
        length = int.from_bytes(octets[start : start + size], "big")
        start += size
    if second & _MASKED:
        start += 4
    if start > len(octets):
        return None
    return FrameHeader(first & _OPCODE, bool(first & _FIN), length, bool(second & _MASKED)), start


class TracingWalker(FrameWalker):
    """A walker that tells of every frame header which it passes, and of the fault at which it stops."""

    __slots__ = ("_faulted", "_passed")

    def __init__(
        self,
        walker: FrameWalker,
        passed: Callable[[FrameHeader], None],
        faulted: Callable[[SessionError], None],
    ) -> None:
        self.resume(walker)
        self._passed = passed
        self._faulted = faulted

    def walk(self, octets: bytes) -> int:
        position = self.left
        run = super().walk(octets)
        # Only now: whoever is told may take this walker out, with the state that it has after the walk.
        headers = []
        while position < run and (found := header_at(octets, position)):
            headers.append(found[0])
            position = found[1] + found[0].length
        # A control frame whose header is not whole yet will be met again.
        if self.control and (found := header_at(octets, run)):
            headers.append(found[0])
        fault = self.fault
        for header in headers:
            self._passed(header)
        if fault is not None:
            self._faulted(fault)
        return run


class TracedLeg(Protocol):
    """What a trace wants of a leg."""

    walker: FrameWalker
    on_control_written: Callable[[int, int], None] | None
    """Told of each control frame that we write to this leg: its opcode and length."""


class Trace:
    """One session being watched, until so many frames or seconds have passed.

    ``show`` takes the lines; ``alive`` says whether the session is still there; ``ended`` is called once.
    Data frames go from peer to peer; control frames are hop by hop, so one end of them is the proxy.
    """

    _log = Logger()

    def __init__(
        self,
        legs: Mapping[Side, TracedLeg],
        clock: IReactorTime,
        show: Callable[[str], None],
        alive: Callable[[], bool],
        ended: Callable[[], None],
        frames: int,
        seconds: float,
    ) -> None:
        self._legs = legs
        self._clock = clock
        self._show = show
        self._alive = alive
        self._ended = ended
        self._frames = frames
        self._seconds = seconds
        self._seen = 0
        self._running = False
        self._walkers: dict[Side, TracingWalker] = {}

    def start(self) -> None:
        """From here on frames are shown."""
        self._running = True
        self._started = self._clock.seconds()
        self._call: IDelayedCall = self._clock.callLater(min(_CHECK_INTERVAL, self._seconds), self._check)
        for side, leg in self._legs.items():
            passed, faulted = partial(self._passed, side), partial(self._faulted, side)
            self._walkers[side] = leg.walker = TracingWalker(leg.walker, passed, faulted)
            leg.on_control_written = partial(self._written, side)

    def stop(self, why: str) -> None:
        """Show nothing more, and leave the legs as they were found."""
        if not self._running:
            return
        self._running = False
        if self._call.active():
            self._call.cancel()
        for side, leg in self._legs.items():
            leg.on_control_written = None
            if leg.walker is self._walkers[side]:
                leg.walker = FrameWalker(True).resume(leg.walker)
        self._show_line(f"trace ended after {count(self._seen, 'frame')}: {why}")
        self._ended()

    def _passed(self, side: Side, header: FrameHeader) -> None:
        to = "proxy" if header.opcode & _CONTROL else side.other.value
        self._line(side.value, to, str(header))

    def _written(self, side: Side, opcode: int, length: int) -> None:
        self._line("proxy", side.value, str(FrameHeader(opcode, True, length, side is Side.UPSTREAM)))

    def _faulted(self, side: Side, fault: SessionError) -> None:
        self._line(side.value, "proxy", f"{fault.name}: {fault}")

    def _line(self, source: str, target: str, text: str) -> None:
        if not self._running:
            return
        self._seen += 1
        self._show_line(f"{self._clock.seconds() - self._started:+9.3f}  {source:>8} > {target:<8}  {text}")
        if self._seen >= self._frames:
            self.stop("that was the number asked for")

    def _show_line(self, text: str) -> None:
        """A terminal that is broken must not break the console that it looks at."""
        try:
            self._show(text)
        except Exception:
            self._log.failure("a trace cannot be shown")

    def _check(self) -> None:
        left = self._started + self._seconds - self._clock.seconds()
        if not self._alive():
            self.stop("the session has ended")
        elif left <= 0:
            self.stop(f"{self._seconds:g} s are over")
        else:
            self._call = self._clock.callLater(min(_CHECK_INTERVAL, left), self._check)
