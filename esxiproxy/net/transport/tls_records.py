"""The handshake, reading and writing of a TLS stream, and its registration with the loop."""

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
    """A stream of TLS records, which takes over the socket, loop and owner of a plain stream.

    ``_handshaking``
        the handshake is not complete; nothing is read or written for the protocol.
    ``_read_blocked``
        a read, or the handshake, has bytes to write that the socket does not take.  Until it takes them, no
        read is tried, because epoll would spin, and no write, because its bytes would be sent first.
    ``_write_blocked``
        a write waits until something is read; before that, a writable socket does not help it.
    ``_writing``
        bytes are in the write buffer, or the connection is to be closed.
    ``_notified``, ``_peer_notified``
        our close_notify was sent; the peer's was received.
    ``_fault``
        the error of a call by the protocol, which ``doWrite`` returns to the loop.
    ``has_received``
        the peer has sent at least one byte of the handshake.
    """

    __slots__ = (
        "_connection",
        "_fault",
        "_handshaking",
        "_notified",
        "_peer_notified",
        "_read_blocked",
        "_resumption",
        "_write_blocked",
        "_writing",
        "has_received",
    )

    def __init__(
        self, plain: Stream, protocol: Any, connection: SSL.Connection, resumption: Resumption | None = None
    ) -> None:
        super().__init__(plain.socket, protocol, plain._loop, plain._peer, plain._owner)
        self._host, self._no_delay = plain._host, plain._no_delay
        self._connection = connection
        self._resumption = resumption
        self._handshaking = True
        self._read_blocked = self._write_blocked = self._writing = False
        self._notified = self._peer_notified = False
        self._fault: DoReadResult = None
        self.has_received = False
        self._update_interest()
        plain._give_up_socket()

    def start(self, client: bool) -> None:
        """Send the ClientHello of a client; a server waits for it."""
        if client and self.connected:
            self._fail(self._handshake())

    # The fast path

    def doRead(self, came: bytes | None = None) -> DoReadResult:
        broken = self._fault
        if broken is not None and (broken is not CONNECTION_LOST or self._handshaking or not self._reading):
            return broken  # a later error would only be a consequence of this one
        if self._handshaking:
            self.has_received = True
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
            if len(octets) < SMALL_RECORD:  # probably the last one; if not, epoll reports the next
                break
        if records:
            if self._resumption is not None:
                self._remember()
            self.protocol.dataReceived(records[0] if len(records) == 1 else b"".join(records))
        if closed and self.connected:
            return self._peer_closed()
        if (
            broken is not None and size <= TLS_READ_SIZE - RECORD_SIZE
        ):  # a write failed, and all received bytes are read
            return broken
        return why

    def write(self, octets: bytes) -> None:
        if isinstance(octets, str):  # which pyOpenSSL would encode
            raise TypeError("write() takes bytes, not str")
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
            while sent < len(octets):  # OpenSSL takes one record at a time
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
        """Write RECORDS_PER_EVENT records of the write buffer at most."""
        buffer = self._write_buffer
        for _ in range(RECORDS_PER_EVENT):
            if not buffer.size:
                break
            try:
                buffer.consume(self._connection.send(buffer.front()))
            except SSL.WantWriteError:
                return None
            except SSL.WantReadError:
                self._write_blocked = True
                self._update_interest()
                return None
            except SSL.Error as error:
                return fault_of(error)
        return None if buffer.size else self._resume_or_close()

    # The handshake

    def _handshake(self) -> DoReadResult:
        """Continue the handshake as far as the socket allows."""
        try:
            self._connection.do_handshake()
        except SSL.Error as error:
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
        """Keep the TLS session for resumption.

        This is called at the first application data: TLS 1.3 sends its tickets after the handshake
        (RFC 8446 4.6.1), and the protocol has accepted the certificate by then.
        """
        resumption, self._resumption = self._resumption, None
        assert resumption is not None
        resumption.remember(self._connection)

    # Registration with the loop

    def _update_interest(self) -> None:
        """Register with the loop for the events that can be handled now; epoll would spin on others."""
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
        if not self._handshaking and self._connection.pending():  # in OpenSSL, unknown to epoll
            self._loop.callLater(0, self._read_pending)

    def _read_pending(self) -> None:
        """Read the plaintext that is left in OpenSSL."""
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
        """Keep an error for the loop to report, since the protocol's call is still on the stack."""
        if why is not None and self._fault is None:
            self._fault = why
            self._update_interest()

    def _peer_closed(self) -> DoReadResult:
        """Handle the peer's close_notify."""
        raise NotImplementedError
