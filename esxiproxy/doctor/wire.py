"""A connection that is read and written with a deadline: plain, or through TLS."""

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
    """Bytes to and from the host."""

    def read(self, deadline: Deadline) -> bytes:
        """What came, at least one byte; ``b""`` at the end.  Raises TimeoutError or another OSError."""

    def write(self, octets: bytes, deadline: Deadline) -> None:
        """Send all of it.  Raises TimeoutError or another OSError."""

    def close(self) -> None:
        """Let go of the connection."""


class PlainWire:
    """A TCP socket.  ``greeting`` is the first that the host said on it."""

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
    """TLS over a plain wire.  OpenSSL works in memory, so that the socket's deadlines hold for it too.

    What OpenSSL complains about while reading or writing is raised as a ConnectionError with its reason.
    """

    def __init__(self, plain: PlainWire, connection: SSL.Connection) -> None:
        self._plain = plain
        self._connection = connection

    def do_handshake(self, deadline: Deadline) -> bool:
        """TLS's handshake; False when the host ended the connection.  Raises SSL.Error and OSErrors."""
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
                # The alert that says why is worth sending, and it is no matter if it cannot be.
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
                    return b""  # without close_notify: to us an end is an end
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
