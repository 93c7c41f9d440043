"""The loop that serves the streams: an epoll instance, which is one readable descriptor to the reactor."""

from __future__ import annotations

import select
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.net.transport.constants import MAX_EVENTS, STREAMS_PER_TURN
from esxiproxy.net.transport.fast_path import compiled
from esxiproxy.net.transport.interfaces import DoReadResult, Unfinished

IN, OUT = select.EPOLLIN, select.EPOLLOUT
GONE = select.EPOLLHUP | select.EPOLLERR
WAITS_PER_TURN = 3
"""Times that the compiled loop waits for the next event before the reactor gets its turn."""
DISCONNECT_ROUNDS = 3
"""Rounds of ``connectionLost`` when the reactor stops, since protocols may open connections in each round."""

_log = Logger()
_DONE, _LOST = Failure(CONNECTION_DONE), Failure(CONNECTION_LOST)


@implementer(IReadDescriptor)
class EpollLoop:
    """A loop over all streams that are ready, inside one event of the reactor.

    The reactor's cost for an event (a logging context, a prefix, three calls) is paid once for all streams
    that are ready together.  The reactor's guarantees are kept.  The order of read, write and loss is the
    same, a bug in a protocol ends its own connection only, and timers and other descriptors are served after
    every batch.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.callLater = reactor.callLater
        self._epoll: Any = None
        self._epoll_fd = -1
        self._entries: dict[int, list[Any]] = {}
        """By descriptor: the stream, the events it waits for, and the turn in which it was registered."""
        self._turn = 0
        self.accepted = 0
        """Connections that the ports have accepted in this turn of the reactor."""
        self._soon: list[tuple[Any, BaseException | None]] = []
        self._is_serving = False
        self._compiled = compiled()
        self._serving = self._serve, self._ended

    def fileno(self) -> int:
        return self._epoll_fd

    def logPrefix(self) -> str:
        return "streams"

    def connectionLost(self, reason: Failure) -> None:
        """End all streams when the reactor stops.  A stream that is registered later is served again."""
        for _ in range(DISCONNECT_ROUNDS):  # a connector may have made a stream in this round
            for stream, _, _ in list(self._entries.values()):
                self._lose(stream, CONNECTION_LOST, 0)
            self._serve_soon()
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None
            self._epoll_fd = -1
        self._entries.clear()

    # The fast path

    def doRead(self) -> None:
        """Serve the streams that are ready, until there are none or STREAMS_PER_TURN are served.

        A port counts as many as it has accepted, so that it cannot accept in one batch after the other.
        The compiled loop waits for a moment a few times, since the answer to what was sent is often near, and
        a turn of the reactor costs as much as a fifth of a session.
        """
        served = waits = self.accepted = 0
        self._is_serving = True
        try:
            while served + self.accepted < STREAMS_PER_TURN and (
                ready := self._ready(0 < waits <= WAITS_PER_TURN)
            ):
                served += ready
                waits += 1
                if self._soon:
                    self._serve_soon()
        finally:
            self._is_serving = False
            if self._soon:
                self.callLater(0, self._serve_soon)

    def serve_soon(self, stream: Any, why: BaseException | None = None) -> None:
        """End a stream for this reason, or without one call its doWrite, after the events of this turn.

        A stream whose write buffer is empty closes without an event.
        """
        if not self._soon and not self._is_serving:
            self.callLater(0, self._serve_soon)
        self._soon.append((stream, why))

    def _serve_soon(self) -> None:
        soon, self._soon = self._soon, []
        for stream, why in soon:
            if why is None and stream.connected:
                try:
                    why = stream.doWrite()
                except BaseException as error:
                    _log.failure("a protocol raised an exception, its connection is closed")
                    why = error
            if why is not None:
                self._lose(stream, why, 0)

    def _ready(self, wait: bool = False) -> int:
        """Serve each stream that is ready once, and return how many they were; 0 when none is left."""
        if self._epoll is None:  # a stream has stopped the reactor
            return 0
        self._turn += 1
        if self._compiled is not None:
            return int(self._compiled.serve(self._epoll_fd, self._entries, self._turn, *self._serving, wait))
        events = self._epoll.poll(0, MAX_EVENTS)
        for fd, event in events:
            self._serve(fd, event)
        return len(events)

    def _serve(self, fd: int, event: int, octets: Unfinished | None = None) -> None:
        """Serve one event of a stream; ``octets`` is what its fast path has left, None if none was called."""
        entry = self._entries.get(fd)
        if entry is None or entry[2] == self._turn:  # unregistered or registered anew in this turn
            return
        stream, mask, _ = entry
        read = event & mask & IN
        try:
            if octets is not None:
                read, why = IN, self._resume_python(stream, octets)
            elif read:
                why = stream.doRead()
                if why is None and event & OUT and entry[1] & OUT:
                    read = 0
                    why = stream.doWrite()
            elif event & mask & OUT and not event & GONE:
                why = stream.doWrite()
            elif event & GONE and not event & IN:
                read = mask & IN
                why = CONNECTION_DONE if read else CONNECTION_LOST
            else:  # paused by an earlier event of this turn
                return
        except BaseException as error:
            _log.failure("a protocol raised an exception, its connection is closed")
            why = error
        if why is not None:
            self._lose(stream, why, read)

    def _ended(self, stream: Any, why: BaseException, event: int, raised: bool) -> None:
        """End a stream whose doRead or doWrite has returned this reason, or has raised it."""
        if raised:
            _log.failure("a protocol raised an exception, its connection is closed", Failure(why))
        self._lose(stream, why, event & IN)

    @staticmethod
    def _resume_python(stream: Any, octets: Unfinished) -> DoReadResult:
        """Continue where a fast path ended: read with its bytes, or handle its exception."""
        if isinstance(octets, bytes):
            return stream.doRead(octets)
        if isinstance(octets, OSError):
            return CONNECTION_LOST
        raise octets

    def _lose(self, stream: Any, why: BaseException, read: int) -> None:
        """End one stream.  No exception may leave this method, or the reactor would end all streams."""
        self.remove(stream)
        try:
            if why is CONNECTION_DONE and read and hasattr(stream, "readConnectionLost"):
                stream.readConnectionLost(_DONE)
            elif why is CONNECTION_DONE:
                stream.connectionLost(_DONE)
            else:
                stream.connectionLost(_LOST if why is CONNECTION_LOST else Failure(why))
        except BaseException:
            _log.failure("a protocol raised an exception in connectionLost")

    # Registration.  A descriptor belongs to the last object that registered it, so that a connector can hand
    # its socket over to a stream, and a stream to a TLS stream.

    def addReader(self, stream: Any) -> None:
        self._want(stream, IN)

    def addWriter(self, stream: Any) -> None:
        self._want(stream, OUT)

    def removeReader(self, stream: Any) -> None:
        self._drop(stream, IN)

    def removeWriter(self, stream: Any) -> None:
        self._drop(stream, OUT)

    def remove(self, stream: Any) -> None:
        """Register a stream for nothing."""
        self._drop(stream, IN | OUT)

    def _want(self, stream: Any, bit: int) -> None:
        if self._epoll is None:
            self._epoll = select.epoll()
            self._epoll_fd = self._epoll.fileno()
            self._reactor.addReader(self)
        fd = stream.fileno()
        if self._compiled is not None:
            self._compiled.register(self._epoll_fd, self._entries, stream, fd, bit, self._turn)
            return
        entry = self._entries.get(fd)
        if entry is None:
            self._epoll.register(fd, bit)
            self._entries[fd] = [stream, bit, self._turn]
        elif entry[0] is not stream:
            self._epoll.modify(fd, bit)
            entry[1] = 0  # the stream before gets no further event of this batch
            self._entries[fd] = [stream, bit, self._turn]
        elif not entry[1] & bit:
            self._epoll.modify(fd, entry[1] | bit)
            entry[1] |= bit

    def _drop(self, stream: Any, bits: int) -> None:
        fd = stream.fileno()  # -1 once it is closed
        if self._compiled is not None:
            self._compiled.unregister(self._epoll_fd, self._entries, stream, fd, bits)
            return
        entry = self._entries.get(fd)
        if entry is None or entry[0] is not stream or not entry[1] & bits:
            return
        entry[1] &= ~bits
        if entry[1]:
            self._epoll.modify(fd, entry[1])
        else:
            self._epoll.unregister(fd)
            del self._entries[fd]
