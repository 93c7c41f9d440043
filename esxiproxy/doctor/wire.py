"""Blocking connections with a deadline for each read and write, plain and with TLS."""

from __future__ import annotations

import contextlib
import socket
from typing import Protocol

from OpenSSL import SSL

from esxiproxy.doctor.deadline import Deadline
from esxiproxy.net.tls.server import reason_of

_CHUNK = 65536
_GREETING = 1024
"""Bytes of the greeting that are kept: its first line is shown."""


class Wire(Protocol):
    """A connection to the host."""

    def read(self, deadline: Deadline) -> bytes:
        """Return at least one byte, or ``b""`` at the end.  Raises TimeoutError or another OSError."""

    def write(self, octets: bytes, deadline: Deadline) -> None:
        """Send all bytes.  Raises TimeoutError or another OSError."""

    def close(self) -> None:
        """Close the connection."""


class PlainWire:
    """A TCP connection.  ``greeting`` are the first bytes that the host sent on it."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.greeting = b""

    def read(self, deadline: Deadline) -> bytes:
        self._socket.settimeout(deadline.remaining())
        octets = self._socket.recv(_CHUNK)
        if len(self.greeting) < _GREETING:
            self.greeting += octets[:_GREETING]
        return octets

    def write(self, octets: bytes, deadline: Deadline) -> None:
        self._socket.settimeout(deadline.remaining())
        self._socket.sendall(octets)

    def close(self) -> None:
        self._socket.close()


class TlsWire:
    """TLS over a plain wire.  OpenSSL works in memory, so that the deadlines of the socket apply to it too.

    An error of OpenSSL in ``read`` or ``write`` is raised as a ConnectionError with OpenSSL's reason.
    """

    def __init__(self, plain: PlainWire, connection: SSL.Connection) -> None:
        self._plain = plain
        self._connection = connection

    def do_handshake(self, deadline: Deadline) -> bool:
        """Perform the TLS handshake; return False if the host ended the connection.

        Raises SSL.Error, TimeoutError or another OSError.
        """
        while True:
            try:
                self._connection.do_handshake()
            except SSL.WantReadError:
                self._flush(deadline)
                octets = self._plain.read(deadline)
                if not octets:
                    return False
                self._connection.bio_write(octets)
            except SSL.Error:
                # Send the alert with the reason if possible.
                with contextlib.suppress(OSError):
                    self._flush(deadline)
                raise
            else:
                self._flush(deadline)
                return True

    def read(self, deadline: Deadline) -> bytes:
        while True:
            try:
                return self._connection.recv(_CHUNK)
            except SSL.ZeroReturnError:
                return b""
            except SSL.WantReadError:
                self._flush(deadline)
                octets = self._plain.read(deadline)
                if not octets:
                    return b""  # a missing close_notify is ignored
                self._connection.bio_write(octets)
            except SSL.Error as error:
                raise ConnectionError(reason_of(error)) from error

    def write(self, octets: bytes, deadline: Deadline) -> None:
        try:
            self._connection.sendall(octets)
        except SSL.Error as error:
            raise ConnectionError(reason_of(error)) from error
        self._flush(deadline)

    def close(self) -> None:
        with contextlib.suppress(SSL.Error, OSError):
            self._connection.shutdown()
            self._flush(Deadline(0.1))
        self._plain.close()

    def _flush(self, deadline: Deadline) -> None:
        while True:
            try:
                octets = self._connection.bio_read(_CHUNK)
            except SSL.WantReadError:
                return
            self._plain.write(octets, deadline)
