"""One of a session's two WebSocket connections: what frontend and backend have in common.

Data frames pass as bytes (:class:`~esxiproxy.core.websocket.frames.FrameWalker` finds their ends); control
frames are Autobahn's.  The Autobahn hooks overridden here are private: ``tests/net/test_autobahn_hooks.py``
names them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from autobahn.websocket.protocol import WebSocketProtocol

from esxiproxy.core.errors import InvalidPayload, ProtocolViolation, SessionError
from esxiproxy.core.websocket.closing import Close, Side, may_be_sent
from esxiproxy.core.websocket.frames import FrameWalker, control_frame
from esxiproxy.net.console.autobahn_options import AutobahnOptions
from esxiproxy.net.console.null_logger import NullLogger
from esxiproxy.net.transport.fast_path import fast_path_for

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    # The mixin's other half, when it is mixed in.
    _Autobahn: Any = WebSocketProtocol
else:
    _Autobahn = object

CLOSE, PING, PONG = 8, 9, 10


class LegEvents(Protocol):
    """The relay that joins a leg to its peer, as the leg reports to it."""

    def close_received(self, leg: Leg, close: Close) -> None:
        """Handle a Close frame from this leg."""

    def faulted(self, leg: Leg, error: SessionError) -> None:
        """Handle a protocol error of this leg's peer."""

    def lost(self, leg: Leg) -> None:
        """Handle the end of this leg's connection."""

    def spend_control(self, leg: Leg) -> bool:
        """Return whether this leg's peer may send one more control frame now."""

    def control_written(self, leg: Leg, opcode: int) -> None:
        """Note that a control frame of ours was written to this leg."""

    def ponged(self, leg: Leg, payload: bytes) -> None:
        """Handle a Pong frame from this leg."""


class Leg(AutobahnOptions, _Autobahn):
    """Mixed into Autobahn's server and client protocol.

    ``side``
        which one of the two it is.
    ``twin``
        the other leg, once the relay has joined them.
    ``sink``
        the twin while data goes on to it; None before and after.
    ``octets``
        bytes of data frames, headers included, that were forwarded from this leg.
    ``heard``
        set at every byte received; whoever wants to know clears it.
    ``blocked``, ``paused``
        the transport takes no more; we do not read from it, since the twin is blocked.
    ``held``
        control frames that wait for a frame boundary or for the transport: opcode to payload.
    ``carried``
        the walker for which the transport was asked for a shorter way.
    ``traced``
        told of each control frame of ours that is written, by opcode and length; None when nobody watches.
    """

    # What a passage looks at for every frame (net/transport/fast_path.c): slots are read where they lie.
    __slots__ = ("current_frame", "data", "heard", "held", "octets", "sink", "walker")

    log = NullLogger()
    transport: Any
    factory: Any
    side: Side
    relay: LegEvents | None = None
    peer_leg: Leg | None = None
    blocked = paused = deaf = lost = False
    fast_path_walker: FrameWalker | None = None
    on_control_written: Callable[[int, int], None] | None = None

    def __init__(self, walker: FrameWalker) -> None:
        """Autobahn's own makes Deferreds and validators that nobody uses here."""
        self.walker = walker
        self.sink: Leg | None = None
        self.octets = 0
        self.heard = False
        self.held: dict[int, bytes] = {}
        self.data = b""
        self.current_frame: Any = None

    def connectionMade(self) -> None:
        """Autobahn's own refuses TLS transports that it does not know, and sets up what nobody uses here."""
        with suppress(AttributeError, OSError):  # a unix socket, a transport of a test
            self.transport.setTcpNoDelay(True)
        self.begin()

    def begin(self) -> None:
        """The connection is there."""

    def connectionLost(self, reason: Failure) -> None:
        self.lost = True
        self.state = WebSocketProtocol.STATE_CLOSED
        self.connection_ended(reason)

    def connection_ended(self, reason: Failure) -> None:
        """The connection has ended: the relay is told, where there is one."""
        if self.relay is not None:
            self.relay.lost(self)

    def dataReceived(self, octets: bytes) -> None:
        """The fast path: nothing is kept back, no control frame is in the making, and somebody reads."""
        self.heard = True
        if self.sink is None or self.data or self.current_frame is not None:
            self.data = self.data + octets if self.data else octets
            self.consumeData()
        elif self._walk(octets):
            self.consumeData()

    def _walk(self, octets: bytes) -> bool:
        """Forward whole runs of data frames; leave control frames to Autobahn.

        True asks to be called again: something was consumed and there is more.
        """
        walker = self.walker
        count = walker.walk(octets)
        if count:
            run = octets[:count]  # all of them as a rule, and then no copy
            sink = self.sink
            if sink is not None:
                self.octets += count
                if sink.held:
                    self._forward_around(sink, run)
                else:
                    sink.transport.write(run)
                    if self.fast_path_walker is not walker:
                        self._request_fast_path(sink)
            if count == len(octets):
                return False
        self.data = octets[count:]
        if walker.fault is not None:
            self.fault(walker.fault)
            return False
        return walker.control and bool(super().processData())

    def _request_fast_path(self, sink: Leg) -> None:
        """A run has gone on past this walker: the transport may have a shorter way for the next ones."""
        self.fast_path_walker = self.walker
        if hasattr(type(self.transport), "set_fast_path"):  # not that of a transport within it
            self.transport.set_fast_path(fast_path_for(self, sink))

    def _forward_around(self, sink: Leg, run: bytes) -> None:
        """What is held goes in at the first frame boundary; behind a Close nothing follows."""
        cut = self.walker.boundary
        if cut >= 0:
            sink.transport.write(run[:cut])
            sink.write_held()
            run = run[cut:]
        if self.sink is not None:
            sink.transport.write(run)

    def processData(self) -> bool:
        """What Autobahn calls for whatever stands in ``data``."""
        if self.deaf:
            self.data = b""
            return False
        if self.current_frame is not None:
            return bool(super().processData())
        octets, self.data = self.data, b""
        return self._walk(octets)

    def fault(self, error: SessionError) -> None:
        """Nothing that comes from here can be read any more."""
        self.deaf = True
        self.data = b""
        if self.relay is not None:
            self.relay.faulted(self, error)

    # Control frames

    def mid_frame(self) -> bool:
        """Whether what was last written to this leg is a part of a data frame."""
        return self.peer_leg is not None and self.peer_leg.walker.left > 0

    def sendFrame(self, opcode: int, payload: bytes = b"", **kwargs: Any) -> None:
        """The one door for control frames: a frame waits here until the stream is at a boundary.

        On a blocked leg one Ping and the newest Pong wait (RFC 6455 5.5.3); a Close is written behind what is
        queued, since nothing follows it.
        """
        if self.lost:
            return
        if self.mid_frame() or (self.blocked and opcode != CLOSE):
            self.held[opcode] = payload
            return
        self._write_control(opcode, payload)

    def _write_control(self, opcode: int, payload: bytes) -> None:
        mask = b"" if self.factory.isServer else os.urandom(4)
        self.transport.write(control_frame(opcode, payload, mask))
        if self.on_control_written is not None:
            self.on_control_written(opcode, len(payload))
        if self.relay is not None:
            self.relay.control_written(self, opcode)

    def write_held(self) -> None:
        """Write what was held; a Close last, for nothing may follow it."""
        held, self.held = self.held, {}
        for opcode in (PONG, PING, CLOSE):
            if opcode not in held:
                continue
            if self.blocked and opcode != CLOSE:
                self.held[opcode] = held[opcode]
            else:
                self._write_control(opcode, held[opcode])

    def send_close(self, close: Close) -> None:
        """Start or answer the closing handshake; a code that may not be sent is left out."""
        code = close.code if close.code is not None and may_be_sent(close.code) else None
        self.sendCloseFrame(code=code, reasonUtf8=close.reason if code is not None else None, isReply=True)

    def processControlFrame(self) -> bool:
        if self.relay is not None and not self.relay.spend_control(self):
            return False
        return bool(super().processControlFrame())

    def onPong(self, payload: bytes) -> None:
        if self.relay is not None:
            self.relay.ponged(self, payload)

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool:
        """Autobahn's own answers at once and drops the connection; here the Close is carried through."""
        reason = reasonRaw or b""
        if code is not None and not may_be_sent(code):
            return self._protocol_violation(f"invalid close code {code}")
        try:
            reason.decode("utf-8")
        except UnicodeDecodeError:
            return self._invalid_payload("close reason is no UTF-8")
        self.deaf = True
        if self.relay is not None:
            self.relay.close_received(self, Close(code, reason))
        return True

    def _protocol_violation(self, reason: str) -> bool:
        self.fault(ProtocolViolation(reason))
        return True

    def _invalid_payload(self, reason: str) -> bool:
        self.fault(InvalidPayload(reason))
        return True

    def _onOpen(self) -> None:
        """Autobahn's own asks the transport for its TLS channel id: nobody here wants it."""

    def open(self) -> None:
        """Enter the state in which frames flow."""
        self.state = WebSocketProtocol.STATE_OPEN
