"""The base class of a session's two WebSocket connections, the frontend and the backend.

Data frames are forwarded as bytes, whose ends :class:`~esxiproxy.core.websocket.frames.FrameWalker` finds.
Control frames that arrive in one piece are parsed here, and all others by Autobahn.  The Autobahn hooks that
are overridden here are private: ``tests/net/test_autobahn_hooks.py`` lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from autobahn.websocket.protocol import WebSocketProtocol

from esxiproxy.core.errors import InvalidPayload, ProtocolViolation, SessionError
from esxiproxy.core.null_logger import NullLogger
from esxiproxy.core.random_bytes import random_bytes
from esxiproxy.core.websocket.closing import Close, Side, may_be_sent
from esxiproxy.core.websocket.frames import FrameWalker, control_frame, whole_control_frame
from esxiproxy.net.console.autobahn_options import AutobahnOptions
from esxiproxy.net.transport.fast_path import fast_path_for

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    # The mixin's other half, when it is mixed in.
    _Autobahn: Any = WebSocketProtocol
else:
    _Autobahn = object

CLOSE, PING, PONG = 8, 9, 10


class LegEvents(Protocol):
    """The relay, as a leg reports to it."""

    def close_received(self, leg: Leg, close: Close) -> None:
        """Handle a Close frame from this leg."""

    def faulted(self, leg: Leg, error: SessionError) -> None:
        """Handle a protocol error of this leg's remote end."""

    def lost(self, leg: Leg) -> None:
        """Handle the end of this leg's connection."""

    def spend_control(self, leg: Leg) -> bool:
        """Return whether this leg's remote end may send one more control frame."""

    def control_written(self, leg: Leg, opcode: int) -> None:
        """Note that the proxy has written a control frame to this leg."""

    def pong_received(self, leg: Leg, payload: bytes) -> None:
        """Handle a Pong frame from this leg."""


class Leg(AutobahnOptions, _Autobahn):
    """A mixin for Autobahn's server and client protocols.

    ``side``
        the side of the session: client or upstream.
    ``peer_leg``
        the other leg of the session, set while the relay joins the two.
    ``sink``
        the peer leg while data is forwarded to it, else None.
    ``octets``
        the bytes of data frames, headers included, that were forwarded from this leg.
    ``heard``
        whether a byte was received since the pinger cleared this flag.
    ``blocked``, ``paused``
        whether the transport's buffer is full; whether the transport is not read, since the peer is blocked.
    ``ignores_input``
        whether received bytes are discarded: after a Close frame or a protocol error.
    ``held``
        the control frames that wait for a frame boundary or for the transport, as opcode to payload.
    ``fast_path_walker``
        the walker for which a fast path was requested from the transport.
    ``on_control_written``
        called with the opcode and length of each control frame that the proxy writes, if not None.
    """

    # The fast path (net/transport/fast_path.c) reads these for every frame, by the offset of their slots.
    __slots__ = ("current_frame", "data", "heard", "held", "octets", "sink", "walker")

    log = NullLogger()
    transport: Any
    factory: Any
    side: Side
    relay: LegEvents | None = None
    peer_leg: Leg | None = None
    blocked = paused = ignores_input = lost = False
    fast_path_walker: FrameWalker | None = None
    on_control_written: Callable[[int, int], None] | None = None

    def __init__(self, walker: FrameWalker) -> None:
        """Set the initial state.  Autobahn's method makes Deferreds and validators that are not used here."""
        self.walker = walker
        self.sink: Leg | None = None
        self.octets = 0
        self.heard = False
        self.held: dict[int, bytes] = {}
        self.data = b""
        self.current_frame: Any = None

    def connectionMade(self) -> None:
        """Begin the opening handshake.

        Autobahn's method refuses unknown TLS transports, and sets up objects that are not used here.
        """
        try:  # noqa: SIM105 - `suppress` costs more than this call
            self.transport.setTcpNoDelay(True)
        except (AttributeError, OSError):  # a unix socket or a test's transport
            pass
        self.begin()

    def begin(self) -> None:
        """Begin the opening handshake, after the connection was made."""

    def connectionLost(self, reason: Failure) -> None:
        self.lost = True
        self.state = WebSocketProtocol.STATE_CLOSED
        self.connection_ended(reason)

    def connection_ended(self, reason: Failure) -> None:
        """Report the end of the connection to the relay, if there is one."""
        if self.relay is not None:
            self.relay.lost(self)

    def dataReceived(self, octets: bytes) -> None:
        """Forward the bytes directly, or buffer them if no sink is set or a frame is incomplete."""
        self.heard = True
        if self.sink is None or self.data or self.current_frame is not None:
            self.data = self.data + octets if self.data else octets
            self.consumeData()
        elif self._walk(octets):
            self.consumeData()

    def _walk(self, octets: bytes) -> bool:
        """Forward the data frames up to the next control frame, and parse that one.

        Return whether a control frame was parsed and more bytes follow it.
        """
        walker = self.walker
        count = walker.walk(octets)
        if count:
            run = octets[:count]  # mostly all of them, which does not copy
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
        if not walker.control:
            return False
        frame = whole_control_frame(self.data, walker.masked)
        if frame is None:  # Autobahn waits for the rest of it, or refuses it
            return bool(super().processData())
        opcode, payload, size = frame
        self.data = self.data[size:]
        self._control_received(opcode, payload)
        return bool(self.data)

    def _control_received(self, opcode: int, payload: bytes) -> None:
        """Handle a control frame that arrived in one piece, as Autobahn handles the others."""
        if opcode == CLOSE:  # the last frame of this leg, so it counts under no limit
            self.onCloseFrame(int.from_bytes(payload[:2]) if payload else None, payload[2:])
            return
        if self.relay is not None and not self.relay.spend_control(self):
            return
        if opcode == PING:
            self.onPing(payload)
        else:
            self.onPong(payload)

    def _request_fast_path(self, sink: Leg) -> None:
        """Request a fast path from the transport, once for each walker, after the first forwarded frames."""
        self.fast_path_walker = self.walker
        # Look at the class, since a wrapper passes the attributes of the transport that it wraps.
        if hasattr(type(self.transport), "set_fast_path"):
            self.transport.set_fast_path(fast_path_for(self, sink))

    def _forward_around(self, sink: Leg, run: bytes) -> None:
        """Write held control frames at the first frame boundary in ``run``; nothing may follow a Close."""
        cut = self.walker.boundary
        if cut >= 0:
            sink.transport.write(run[:cut])
            sink.write_held()
            run = run[cut:]
        if self.sink is not None:
            sink.transport.write(run)

    def processData(self) -> bool:
        """Parse the buffered bytes in ``data``; overrides Autobahn's method."""
        if self.ignores_input:
            self.data = b""
            return False
        if self.current_frame is not None:
            return bool(super().processData())
        octets, self.data = self.data, b""
        return self._walk(octets)

    def fault(self, error: SessionError) -> None:
        """Ignore all further input of this leg, and report ``error`` to the relay."""
        self.ignores_input = True
        self.data = b""
        if self.relay is not None:
            self.relay.faulted(self, error)

    # Control frames

    def mid_frame(self) -> bool:
        """Return whether the last write to this leg ended within a data frame."""
        return self.peer_leg is not None and self.peer_leg.walker.left > 0

    def sendFrame(self, opcode: int, payload: bytes = b"", **kwargs: Any) -> None:
        """Write a control frame, or hold it until the next frame boundary.

        Every control frame is written by this method.  On a blocked leg one Ping and the newest Pong are
        held (RFC 6455 5.5.3).  A Close is written even then, since nothing follows it.
        """
        if self.lost:
            return
        if self.mid_frame() or (self.blocked and opcode != CLOSE):
            self.held[opcode] = payload
            return
        self._write_control(opcode, payload)

    def _write_control(self, opcode: int, payload: bytes) -> None:
        mask = b"" if self.factory.isServer else random_bytes(4)
        self.transport.write(control_frame(opcode, payload, mask))
        if self.on_control_written is not None:
            self.on_control_written(opcode, len(payload))
        if self.relay is not None:
            self.relay.control_written(self, opcode)

    def write_held(self) -> None:
        """Write the held control frames, a Close last, since nothing may follow it."""
        held, self.held = self.held, {}
        for opcode in (PONG, PING, CLOSE):
            if opcode not in held:
                continue
            if self.blocked and opcode != CLOSE:
                self.held[opcode] = held[opcode]
            else:
                self._write_control(opcode, held[opcode])

    def send_close(self, close: Close) -> None:
        """Start or answer the closing handshake.  Leave out a code that may not be sent (RFC 6455 7.4)."""
        if self.state == WebSocketProtocol.STATE_OPEN:
            code = close.code if close.code is not None and may_be_sent(close.code) else None
            self.sendFrame(CLOSE, b"" if code is None else code.to_bytes(2) + close.reason)
            self.state = WebSocketProtocol.STATE_CLOSING

    def processControlFrame(self) -> bool:
        if self.relay is not None and not self.relay.spend_control(self):
            return False
        return bool(super().processControlFrame())

    def onPong(self, payload: bytes) -> None:
        if self.relay is not None:
            self.relay.pong_received(self, payload)

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool:
        """Check a Close frame and report it to the relay, which forwards it.

        Autobahn's method would answer it and drop the connection.
        """
        reason = reasonRaw or b""
        if code is not None and not may_be_sent(code):
            return self._protocol_violation(f"invalid close code {code}")
        if reason:
            try:
                reason.decode("utf-8")
            except UnicodeDecodeError:
                return self._invalid_payload("close reason is no UTF-8")
        self.ignores_input = True
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
        """Do nothing.  Autobahn's method queries the transport's TLS channel id, which is not used here."""

    def open(self) -> None:
        """Enter Autobahn's open state, in which frames are parsed."""
        self.state = WebSocketProtocol.STATE_OPEN
