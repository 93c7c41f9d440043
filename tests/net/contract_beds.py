"""The two ways to run the scenes of the transport contract: in memory, and over real TCP."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios
import time
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.net.transport.reactor import with_fast_transports
from tests.net.memory import Wire
from tests.support.real_reactor import TurnedReactor

KIB = 1024
BUFFER = 32 * KIB
"""What each socket's buffers are set to."""
BLOCKING = KIB * KIB
"""More than the kernel takes then for a peer that does not read."""

Trace = list[tuple[Any, ...]]


@implementer(IPushProducer)
class Near(Protocol):
    """Our end: it notes what happens to it.  It is its transport's producer, too."""

    transport: Any

    def __init__(self) -> None:
        self.trace: Trace = []

    def dataReceived(self, data: bytes) -> None:
        if self.trace and self.trace[-1][0] == "got":
            data = self.trace.pop()[1] + data
        self.trace.append(("got", data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.trace.append(("lost", type(reason.value).__name__))

    def pauseProducing(self) -> None:
        self.trace.append(("pause",))

    def resumeProducing(self) -> None:
        self.trace.append(("resume",))

    def stopProducing(self) -> None:
        self.trace.append(("stop",))


class Memory:
    """Both ends in memory."""

    def __init__(self) -> None:
        self.near = Near()
        self.wire = Wire(self.near)

    def settle(self) -> None:
        """Deliver data until nothing changes."""
        while self.wire.pump():
            pass

    def send(self, octets: bytes) -> None:
        self.wire.send(octets)

    def close(self) -> None:
        self.wire.close()

    def reset(self) -> None:
        self.wire.reset()

    def block(self) -> None:
        self.wire.block()

    def unblock(self) -> None:
        self.wire.unblock()

    @property
    def received(self) -> bytes:
        return bytes(self.wire.received)

    @property
    def end(self) -> str | None:
        """Return how the stream ended for the far end."""
        if self.wire.ended == "aborted":
            return "RST"
        answered = self.wire.ended == "far" and self.near.trace[-1] == ("lost", "ConnectionDone")
        return "FIN" if answered or self.wire.saw_fin else None

    def stop(self) -> None:
        """Do nothing, because no resource is held."""


class Accepting(Factory):
    """Gives its one protocol to the one connection."""

    noisy = False

    def __init__(self, near: Near) -> None:
        self.near = near

    def buildProtocol(self, addr: Any) -> Near:
        return self.near


def unacknowledged(end: socket.socket) -> int:
    """Return how many octets of a socket its peer has not confirmed; a FIN is one (SIOCOUTQ, tcp(7))."""
    answer = fcntl.ioctl(end.fileno(), termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, "little")


class Real:
    """Our end on a reactor that is turned by hand, the far end a plain socket."""

    def __init__(self, ours: bool = False) -> None:
        self.near = Near()
        self.received = b""
        self.end: str | None = None
        self._reading = True
        self._reset = False
        self._turned = TurnedReactor()
        core = self._turned.core
        reactor = with_fast_transports(core) if ours else core
        self._port = reactor.listenTCP(0, Accepting(self.near), interface="127.0.0.1")
        self._far = socket.socket()
        self._far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._far.connect(("127.0.0.1", self._port.getHost().port))
        self._far.setblocking(False)
        self._turned.until(lambda: self.near.transport)
        self.near.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)

    def settle(self) -> None:
        """Wait until no data is on its way and nothing has changed for a moment."""
        quiet = 0
        deadline = time.monotonic() + self._turned.deadline
        while quiet < 15:
            assert time.monotonic() < deadline, "something is still on its way"
            before = self._state()
            self._turned.turn(0.002)
            self._read()
            quiet = 0 if self._state() != before or self._under_way() else quiet + 1

    def _under_way(self) -> bool:
        """Return whether the kernel holds octets or an end that the other side has not received."""
        if self._reset:
            return False
        lost = any(event[0] == "lost" for event in self.near.trace)
        if self._reading and self.end is None and (lost or unacknowledged(self.near.transport.getHandle())):
            return True
        return not lost and bool(unacknowledged(self._far))

    def _state(self) -> tuple[int, int, str | None]:
        noted = sum(len(event[1]) if event[0] == "got" else 1 for event in self.near.trace)
        return noted, len(self.received), self.end

    def _read(self) -> None:
        while self._reading and self.end is None:
            try:
                octets = self._far.recv(1 << 20)
            except BlockingIOError:
                return
            except ConnectionError:
                self.end = "RST"
            else:
                self.received += octets
                self.end = None if octets else "FIN"

    def send(self, octets: bytes) -> None:
        self._far.sendall(octets)

    def close(self) -> None:
        self._far.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self._far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._far.close()
        self._reading, self._reset = False, True

    def block(self) -> None:
        self._reading = False

    def unblock(self) -> None:
        self._reading = True

    def stop(self) -> None:
        self._reading, self._reset = False, True
        with contextlib.suppress(OSError):
            self._far.close()
        self._port.stopListening()
        self.settle()
        self._turned.close()


Bed = Memory | Real
