"""The transport with TLS: a pyOpenSSL connection on the socket itself, without a memory BIO."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import INegotiated, ISSLTransport
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.net.transport.interfaces import DoReadResult, HandshakeCut
from esxiproxy.net.transport.tls_records import RecordStream


@implementer(ISSLTransport, INegotiated)
class TLSStream(RecordStream):
    """A TLS transport.

    It cannot be half-closed.  To close, it sends a close_notify and waits for the peer's.
    """

    __slots__ = ()

    FAST_PATH_BLOCKERS = ("_fault", "_notified", "_read_blocked", "_handshaking", "_write_blocked")

    # The fast path

    def doRead(self, octets: bytes | None = None) -> DoReadResult:
        fast_path = self._fast_path
        if octets is None and fast_path is not None and self._reading:
            octets = fast_path()
            if octets is None:
                return None
        if octets:
            self.protocol.dataReceived(octets)
        return super().doRead()

    # Closing

    def loseConnection(self) -> None:
        """Write the buffered bytes and a close_notify, then wait for the peer's close_notify.

        During the handshake the connection is aborted, unless there are bytes to be written.
        """
        if not self.connected or self.disconnecting:
            return
        if self._handshaking and not self._write_buffer.size:
            self.abortConnection()
        self.disconnecting = True
        self._write_soon()

    def loseWriteConnection(self) -> None:
        self.loseConnection()

    def resumeProducing(self) -> None:
        """Resume reading, also while closing: the peer's close_notify has to be read."""
        if self.connected and not self._peer_notified:
            self._reading = True
            self._start_reading()

    def _resume_or_close(self) -> DoReadResult:
        """Close the connection if the peer has sent its close_notify, whether or not a producer has more."""
        if self._peer_notified:
            self._notify()
            return CONNECTION_DONE
        return super()._resume_or_close()

    def _continue_closing(self) -> DoReadResult:
        if self.disconnecting and self.producer is None and not self._notified:
            return self._notify()
        return None

    def _notify(self) -> DoReadResult:
        """Send our close_notify; return CONNECTION_DONE if the peer's is received already."""
        try:
            both = self._connection.shutdown()
        except SSL.WantWriteError:
            self._start_writing()
            return None
        except SSL.WantReadError:
            both = False
        except SSL.Error:
            return CONNECTION_LOST
        self._notified = True
        return CONNECTION_DONE if both else None

    def _peer_closed(self) -> DoReadResult:
        """Handle the peer's close_notify: stop reading, write the buffered bytes, and close."""
        self._peer_notified = True
        self._reading = False
        if self._write_buffer.size:
            self.disconnecting = True
            self._update_interest()
            return None
        self._notify()
        return CONNECTION_DONE

    def readConnectionLost(self, reason: Failure) -> None:
        self.connectionLost(reason)

    def writeConnectionLost(self, reason: Failure) -> None:
        self.connectionLost(reason)

    def connectionLost(self, reason: Failure) -> None:
        """End the connection; report an end without the peer's close_notify as a loss.

        An attacker can cut a connection, but cannot forge a close_notify (RFC 8446 6.1).
        """
        if reason.check(ConnectionDone) and not self._peer_notified:
            reason = Failure(CONNECTION_LOST)
        if self._handshaking and not self._aborting and reason.check(ConnectionLost) and self._has_begun():
            reason = Failure(HandshakeCut())
        super().connectionLost(reason)

    def _has_begun(self) -> bool:
        """Return whether a whole handshake message was read or written, which sets the client's random."""
        return self._connection is not None and any(self._connection.client_random() or b"")

    def _close(self) -> None:
        super()._close()
        self._connection = self._resumption = None  # type: ignore[assignment]

    # Properties

    def getHandle(self) -> SSL.Connection:
        return self._connection

    def getPeerCertificate(self) -> Any:
        return self._connection.get_peer_certificate()

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """The protocol that ALPN has chosen (RFC 7301); None before the handshake and without ALPN."""
        connection = self._connection
        return (connection.get_alpn_proto_negotiated() or None) if connection is not None else None
