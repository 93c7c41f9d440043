"""The loop that serves the streams: an epoll, which the reactor sees as one readable descriptor."""

from __future__ import annotations

import select
from typing import Any

from twisted.internet.interfaces import IHalfCloseableDescriptor, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.net.transport.constants import MAX_EVENTS, STREAMS_PER_TURN
from esxiproxy.net.transport.fast_path import compiled
from esxiproxy.net.transport.interfaces import DoReadResult, Unfinished

IN, OUT = select.EPOLLIN, select.EPOLLOUT
GONE = select.EPOLLHUP | select.EPOLLERR
DISCONNECT_ROUNDS = 3
"""How often those that are left at the end are told: what begins in answer to that is not told for ever."""

_log = Logger()
_DONE, _LOST = Failure(CONNECTION_DONE), Failure(CONNECTION_LOST)


@implementer(IReadDescriptor)
class EpollLoop:
    """Serves every stream that is ready in one plain loop.

    The reactor spends more on an event than the event itself costs: a logging context, a prefix, three calls.
    Here that is spent once for all streams that are ready together.  What the reactor promises is kept:
    the same order of read, write and loss, a bug in one protocol ends that one connection, and timers and
    other descriptors have their turn after every batch.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.callLater = reactor.callLater
        self._epoll: Any = None
        self._entries: dict[int, list[Any]] = {}
        """By descriptor: a stream, what it waits for, and the turn in which it began to."""
        self._turn = 0
        self._compiled = compiled()

    def fileno(self) -> int:
        return -1 if self._epoll is None else int(self._epoll.fileno())

    def logPrefix(self) -> str:
        return "streams"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has stopped, and each stream is told.  One that begins later is served again."""
        for _ in range(DISCONNECT_ROUNDS):  # a dial may have become a stream in this very moment
            for stream, _, _ in list(self._entries.values()):
                self._lose(stream, CONNECTION_LOST, 0)
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None
        self._entries.clear()

    # The fast path

    def doRead(self) -> None:
        """A few busy streams are served several times: the reactor's turn costs as much as some of theirs."""
        served = 0
        while served < STREAMS_PER_TURN and (ready := self._ready()):
            served += ready

    def _ready(self) -> int:
        """Serve those that are ready, once each; how many they were, 0 when nobody is left."""
        if self._epoll is None:  # one of the turn before has stopped the reactor
            return 0
        self._turn += 1
        if self._compiled is not None:
            return int(self._compiled.serve(self._epoll.fileno(), self._entries, self._turn, self._serve))
        events = self._epoll.poll(0, MAX_EVENTS)
        for fd, event in events:
            self._serve(fd, event)
        return len(events)

    def _serve(self, fd: int, event: int, octets: Unfinished | None = None) -> None:
        """Serve one stream; ``octets`` is what its fast path has left, if it has one."""
        entry = self._entries.get(fd)
        if entry is None or entry[2] == self._turn:  # gone in this turn, or another's since
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
            _log.failure("a protocol raised")
            why = error
        if why is not None:
            self._lose(stream, why, read)

    @staticmethod
    def _resume_python(stream: Any, octets: Unfinished) -> DoReadResult:
        """Go on where a fast path ended: with what it has read, or because of what it raised."""
        if isinstance(octets, bytes):
            return stream.doRead(octets)
        if isinstance(octets, OSError):
            return CONNECTION_LOST
        raise octets

    def _lose(self, stream: Any, why: BaseException, read: int) -> None:
        """End one stream.  Nothing may get out of here: the reactor would drop the loop, and with it all."""
        self.removeReader(stream)
        try:
            if why is CONNECTION_DONE and read and IHalfCloseableDescriptor.providedBy(stream):
                stream.readConnectionLost(_DONE)
            elif why is CONNECTION_DONE:
                stream.connectionLost(_DONE)
            else:
                stream.connectionLost(_LOST if why is CONNECTION_LOST else Failure(why))
        except BaseException:
            _log.failure("a protocol raised in connectionLost")

    # Interest.  A descriptor is whose that asked last: a dial's becomes its stream's, and that TLS's.

    def addReader(self, stream: Any) -> None:
        self._want(stream, IN)

    def addWriter(self, stream: Any) -> None:
        self._want(stream, OUT)

    def removeReader(self, stream: Any) -> None:
        self._drop(stream, IN)

    def removeWriter(self, stream: Any) -> None:
        self._drop(stream, OUT)

    def _want(self, stream: Any, bit: int) -> None:
        fd = stream.fileno()
        entry = self._entries.get(fd)
        if entry is None:
            if self._epoll is None:
                self._epoll = select.epoll()
                self._reactor.addReader(self)
            self._epoll.register(fd, bit)
            self._entries[fd] = [stream, bit, self._turn]
        elif entry[0] is not stream:
            self._epoll.modify(fd, bit)
            entry[1] = 0  # whoever is being served by it has nothing more to do
            self._entries[fd] = [stream, bit, self._turn]
        elif not entry[1] & bit:
            self._epoll.modify(fd, entry[1] | bit)
            entry[1] |= bit

    def _drop(self, stream: Any, bit: int) -> None:
        fd = stream.fileno()  # -1 once it is closed
        entry = self._entries.get(fd)
        if entry is None or entry[0] is not stream or not entry[1] & bit:
            return
        entry[1] &= ~bit
        if entry[1]:
            self._epoll.modify(fd, entry[1])
        else:
            self._epoll.unregister(fd)
            del self._entries[fd]
