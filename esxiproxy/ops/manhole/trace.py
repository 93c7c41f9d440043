"""Traces a session: shows the headers of its frames as they are relayed, never a payload or a masking key.

A trace replaces the frame walker of each leg and puts a plain one back at its end, so that sessions without
a trace have no cost.
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
"""Seconds between two checks whether the session has ended."""


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The header of a frame without its masking key (RFC 6455 5.2)."""

    opcode: int
    fin: bool
    length: int
    masked: bool

    def __str__(self) -> str:
        name = _NAMES.get(self.opcode, f"opcode {self.opcode}")
        flags = ("fin" if self.fin else "...", "masked" if self.masked else "")
        return f"{name:<12}  {flags[0]}  {self.length:>9}  {flags[1]}".rstrip()


def header_at(octets: bytes, position: int) -> tuple[FrameHeader, int] | None:
    """Return the frame header at ``position`` and where its payload begins, or None if it is incomplete."""
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
    """A frame walker that reports each frame header, and the fault at which it stops.

    It takes over the state of ``walker``.
    """

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
        # Reported after the walk, since a callback may replace this walker and continue with its state.
        headers = []
        while position < run and (found := header_at(octets, position)):
            headers.append(found[0])
            position = found[1] + found[0].length
        # An incomplete header of a control frame is found again in the next walk.
        if self.control and (found := header_at(octets, run)):
            headers.append(found[0])
        fault = self.fault
        for header in headers:
            self._passed(header)
        if fault is not None:
            self._faulted(fault)
        return run


class TracedLeg(Protocol):
    """The part of a leg that a trace uses."""

    walker: FrameWalker
    on_control_written: Callable[[int, int], None] | None
    """Called with opcode and length of each control frame that the proxy writes to this leg."""


class Trace:
    """The trace of one session, which ends after ``frames`` frames or ``seconds`` seconds.

    ``show`` prints a line, ``alive`` returns whether the session has not ended, and ``ended`` is called once,
    at the end of the trace.  Data frames are shown from peer to peer, control frames between a peer and the
    proxy.
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
        """Start to show frames."""
        self._running = True
        self._started = self._clock.seconds()
        self._call: IDelayedCall = self._clock.callLater(min(_CHECK_INTERVAL, self._seconds), self._check)
        for side, leg in self._legs.items():
            passed, faulted = partial(self._passed, side), partial(self._faulted, side)
            self._walkers[side] = leg.walker = TracingWalker(leg.walker, passed, faulted)
            leg.on_control_written = partial(self._written, side)

    def stop(self, reason: str) -> None:
        """Show the reason, stop the trace and restore the legs; do nothing if it has ended."""
        if not self._running:
            return
        self._running = False
        if self._call.active():
            self._call.cancel()
        for side, leg in self._legs.items():
            leg.on_control_written = None
            if leg.walker is self._walkers[side]:
                leg.walker = FrameWalker(True).resume(leg.walker)
        self._show_line(f"trace ended after {count(self._seen, 'frame')}: {reason}")
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
            self.stop("limit of frames reached")

    def _show_line(self, text: str) -> None:
        """Show a line; an error of the terminal is logged and does not reach the console."""
        try:
            self._show(text)
        except Exception:
            self._log.failure("showing a line of a trace failed")

    def _check(self) -> None:
        left = self._started + self._seconds - self._clock.seconds()
        if not self._alive():
            self.stop("the session has ended")
        elif left <= 0:
            self.stop(f"limit of {self._seconds:g} s reached")
        else:
            self._call = self._clock.callLater(min(_CHECK_INTERVAL, left), self._check)
