"""The records of a TLS stream: the handshake, reading and writing, and what each of them waits for."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.main import CONNECTION_LOST

from esxiproxy.net.transport.constants import RECORD_SIZE, RECORDS_PER_EVENT, SMALL_RECORD, TLS_READ_SIZE
from esxiproxy.net.transport.interfaces import DoReadResult, fault_of
from esxiproxy.net.transport.resumption import Resumption
from esxiproxy.net.transport.stream import Stream


class RecordStream(Stream):
    """Takes the place of a plain stream, whose socket, loop and owner it goes on with.

    ``_shaking``
        the handshake goes on; nothing is read or written for the protocol.
    ``_begun``
        a whole message of the handshake was read or written.
    ``_read_blocked``
        a read, or the handshake, has something to write that the socket does not take: until it does, no
        read is tried (epoll would spin) and no write (it would overtake).
    ``_write_blocked``
        a write waits for something to be read: until then the socket being writable says nothing.
    ``_writing``
        something is queued, or is to be ended.
    ``_notified``, ``_peer_notified``
        our close_notify is out; the peer's is in.
    ``_fault``
        what a call of the protocol's ran into: the loop picks it up in ``doWrite``.
    ``heard``
        the peer has sent something in the handshake, were it only a part of its first record.
    """

    __slots__ = (
        "_begun",
        "_connection",
        "_fault",
        "_handshaking",
        "_notified",
        "_peer_notified",
        "_read_blocked",
        "_resumption",
        "_write_blocked",
        "_writing",
        "heard",
    )

    def __init__(
        self, plain: Stream, protocol: Any, connection: SSL.Connection, resumption: Resumption | None = None
    ) -> None:
        super().__init__(plain.socket, protocol, plain._loop, plain._peer, plain._owner)
        self._host = plain._host
        self._connection = connection
        self._resumption = resumption
        self._handshaking = True
        self._begun = False
        self._read_blocked = self._write_blocked = self._writing = False
        self._notified = self._peer_notified = False
        self._fault: DoReadResult = None
        self.heard = False
        self._update_interest()
        plain._give_up_socket()

    def start(self, client: bool) -> None:
        """Begin the handshake; a server waits for the client's hello."""
        if client and self.connected:
            self._fail(self._handshake())

    # The fast path

    def doRead(self, came: bytes | None = None) -> DoReadResult:
        broken = self._fault
        if broken is not None and (broken is not CONNECTION_LOST or self._handshaking or not self._reading):
            return broken  # what comes after it would be a consequence of it
        if self._handshaking:
            self.heard = True
            return self._handshake()
        if self._write_blocked and broken is None:
            self._write_blocked = False
            if (fault := self._flush()) is not None:
                return fault
            self._update_interest()
        records: list[bytes] = []
        why: DoReadResult = None
        closed = False
        size = 0
        while self._reading and size <= TLS_READ_SIZE - RECORD_SIZE:
            try:
                octets = self._connection.recv(RECORD_SIZE)
            except SSL.WantReadError:
                break
            except SSL.WantWriteError:
                self._read_blocked = True
                self._update_interest()
                break
            except SSL.ZeroReturnError:
                closed = True
                break
            except SSL.Error as error:
                why = fault_of(error)
                break
            records.append(octets)
            size += len(octets)
            if len(octets) < SMALL_RECORD:  # most likely the last: epoll says so if it was not
                break
        if records:
            if self._resumption is not None:
                self._remember()
            self.protocol.dataReceived(records[0] if len(records) == 1 else b"".join(records))
        if closed and self.connected:
            return self._peer_closed()
        if (
            broken is not None and size <= TLS_READ_SIZE - RECORD_SIZE
        ):  # a write failed, and all that had come before is read
            return broken
        return why

    def write(self, octets: bytes) -> None:
        if isinstance(octets, str):  # pyOpenSSL would encode it
            raise TypeError("octets are bytes")
        if not octets or not self.connected or self._notified:
            return
        if self.disconnecting and self.producer is None:  # as Twisted's TLS
            return
        if self._write_buffer.size or self._handshaking or self._read_blocked or self._fault is not None:
            self._queue(bytes(octets))
            return
        sent = 0
        try:
            sent = self._connection.send(octets)
            while sent < len(octets):  # a record at a time
                sent += self._connection.send(memoryview(octets)[sent:])
        except SSL.WantWriteError:
            pass
        except SSL.WantReadError:
            self._write_blocked = True
        except SSL.Error as error:
            self._fail(fault_of(error))
        if sent < len(octets):
            self._queue(bytes(octets[sent:]) if sent else bytes(octets))
        elif self.producer is not None and not self._streaming:
            self._start_writing()

    def doWrite(self) -> DoReadResult:
        if self._fault is not None:
            return self.doRead()
        if self._handshaking:
            return self._handshake()
        if self._read_blocked:
            self._read_blocked = False
            self._update_interest()
            why = self.doRead()
            if why is not None or self._read_blocked:
                return why
        return self._flush()

    def _flush(self) -> DoReadResult:
        outbox = self._write_buffer
        for _ in range(RECORDS_PER_EVENT):
            if not outbox.size:
                break
            try:
                outbox.taken(self._connection.send(outbox.front()))
            except SSL.WantWriteError:
                return None
            except SSL.WantReadError:
                self._write_blocked = True
                self._update_interest()
                return None
            except SSL.Error as error:
                return fault_of(error)
        return None if outbox.size else self._drained()

    # The handshake

    def _handshake(self) -> DoReadResult:
        try:
            self._connection.do_handshake()
        except SSL.Error as error:
            # One call may read the hello, answer it, and find that the client has gone.
            self._begun = any(self._connection.client_random() or b"")
            if isinstance(error, SSL.WantReadError | SSL.WantWriteError):
                self._set_read_blocked(isinstance(error, SSL.WantWriteError))
                return None
            return fault_of(error)
        self._handshaking = self._read_blocked = False
        if IHandshakeListener.providedBy(self.protocol):
            self.protocol.handshakeCompleted()
        self._update_interest()
        return None

    def _set_read_blocked(self, blocked: bool) -> None:
        if self._read_blocked is not blocked:
            self._read_blocked = blocked
            self._update_interest()

    def _remember(self) -> None:
        """TLS 1.3's tickets come after the handshake, so the first application data is when to look.

        By then the protocol has accepted the certificate, or it would not read.
        """
        resumption, self._resumption = self._resumption, None
        assert resumption is not None
        resumption.remember(self._connection)

    # Interest

    def _update_interest(self) -> None:
        """Ask the loop for what can be acted upon, and for nothing else: epoll would spin."""
        if not self.connected:
            return
        if (self._handshaking or self._reading or self._write_blocked) and not self._read_blocked:
            self._loop.addReader(self)
        else:
            self._loop.removeReader(self)
        ready = self._writing and not self._handshaking and not self._write_blocked
        if ready or self._read_blocked or self._fault is not None:
            self._loop.addWriter(self)
        else:
            self._loop.removeWriter(self)

    def _start_reading(self) -> None:
        self._update_interest()
        if not self._handshaking and self._connection.pending():  # epoll does not know of these
            self._loop.callLater(0, self._read_pending)

    def _read_pending(self) -> None:
        if self._reading and not self._read_blocked and (why := self.doRead()) is not None:
            self._fail(why)

    def _stop_reading(self) -> None:
        self._update_interest()

    def _start_writing(self) -> None:
        if not self._writing:
            self._writing = True
            self._update_interest()

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._update_interest()

    def _fail(self, why: DoReadResult) -> None:
        """Leave what went wrong for the loop, which is not in the protocol's stack."""
        if why is not None and self._fault is None:
            self._fault = why
            self._update_interest()

    def _peer_closed(self) -> DoReadResult:
        """A close_notify came."""
        raise NotImplementedError
