"""One end of a TCP connection that does not block, with or without TLS."""

from __future__ import annotations

import select
import socket
import ssl
import struct
from typing import Protocol

from bench.soak.loop import Loop

WAIT = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
READ = 1 << 16
CLOSE_TIMEOUT = 10.0
"""Seconds that the other side has to take what is left when a stream is ended."""
NO_LINGER = struct.pack("ii", 1, 0)


class Owner(Protocol):
    """The owner of a stream, which is notified of its events."""

    def opened(self) -> None:
        """Handle the established connection, TLS included."""

    def received(self, octets: bytes) -> None:
        """Handle received bytes."""

    def lost(self, how: str) -> None:
        """Handle the end of a connection that was not ended by this side; it is the last event."""


class Stream:
    """`Stream.dial` begins a connection, the constructor takes one that was accepted."""

    def __init__(
        self,
        loop: Loop,
        taken: socket.socket,
        owner: Owner,
        context: ssl.SSLContext | None,
        server: bool = True,
    ) -> None:
        self._loop = loop
        self._socket = taken
        self._owner = owner
        self._context = context
        self._server = server
        self._out = bytearray()
        self._step = self._connected
        self.ended = False
        taken.setblocking(False)
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch(select.EPOLLOUT)

    @classmethod
    def dial(cls, loop: Loop, port: int, owner: Owner, context: ssl.SSLContext | None) -> Stream:
        """Connect to this port on 127.0.0.1."""
        dialled = socket.socket()
        dialled.setblocking(False)
        dialled.connect_ex(("127.0.0.1", port))
        return cls(loop, dialled, owner, context, server=False)

    @property
    def port(self) -> int:
        """Return the local port."""
        return int(self._socket.getsockname()[1])

    @property
    def certificate(self) -> bytes:
        """Return the certificate of the peer (DER), empty without TLS."""
        shown = self._socket.getpeercert(True) if isinstance(self._socket, ssl.SSLSocket) else None
        return shown or b""

    @property
    def waiting(self) -> int:
        """Bytes that the socket has not yet taken."""
        return len(self._out)

    def write(self, octets: bytes) -> None:
        """Send these, at once if the socket takes them."""
        if self.ended:
            return
        waiting = bool(self._out)
        self._out += octets
        if not waiting and self._step == self._open:
            self._flush()
            if self._out:
                self._watch(select.EPOLLIN | select.EPOLLOUT)

    def end(self) -> None:
        """Close it when all is written: a FIN, without a word of TLS."""
        if self.ended:
            return
        self.ended = True
        if self._out:
            self._watch(select.EPOLLOUT)
            self._loop.later(CLOSE_TIMEOUT, self._close)
        else:
            self._close()

    def reset(self) -> None:
        """Close it at once, with an RST."""
        if not self.ended:
            self.ended = True
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self._close()

    # the loop's side

    def _ready(self, _events: int) -> None:
        try:
            self._step()
        except WAIT as problem:
            writes = isinstance(problem, ssl.SSLWantWriteError)
            self._watch(select.EPOLLOUT if writes else select.EPOLLIN)
        except OSError as problem:
            self._over(f"{type(problem).__name__}: {problem}")

    def _watch(self, events: int) -> None:
        self._loop.watch(self._socket.fileno(), events, self._ready)

    def _connected(self) -> None:
        problem = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            raise OSError(problem, f"error {problem} on connecting")
        if self._context is None:
            self._begin()
            return
        self._loop.forget(self._socket.fileno())  # which is gone if this fails
        self._socket = self._context.wrap_socket(
            self._socket, self._server, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        self._step = self._shake
        self._watch(select.EPOLLIN)
        if not self._server:
            self._shake()

    def _shake(self) -> None:
        assert isinstance(self._socket, ssl.SSLSocket)
        self._socket.do_handshake()
        self._begin()

    def _begin(self) -> None:
        self._step = self._open
        self._watch(select.EPOLLIN)
        self._owner.opened()
        if not self.ended:
            self._open()

    def _open(self) -> None:
        self._flush()
        if self.ended:
            if not self._out:
                self._close()
            return
        try:
            for _ in range(16):
                octets = self._socket.recv(READ)
                if not octets:
                    self._over("FIN")
                    return
                self._owner.received(octets)
                if self.ended:
                    return
        except WAIT:
            self._watch(select.EPOLLIN | (select.EPOLLOUT if self._out else 0))

    def _flush(self) -> None:
        try:
            while self._out:
                count = self._socket.send(self._out)
                del self._out[:count]
        except WAIT:
            pass
        except OSError:
            self._out.clear()  # what has arrived is still to be read, and then its end

    def _over(self, how: str) -> None:
        told, self.ended = self.ended, True
        self._close()
        if not told:
            self._owner.lost(how)

    def _close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
