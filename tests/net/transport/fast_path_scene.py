"""Streams as the compiled part sees them, between two pairs of sockets, for tests of fast paths."""

from __future__ import annotations

import socket

import pytest

from esxiproxy.net.transport import fast_path
from esxiproxy.net.transport.write_buffer import WriteBuffer
from tests.support.packages import NO_COMPILER

compiled = pytest.mark.skipif(fast_path._compiled is None, reason=NO_COMPILER)


class Ends:
    """A stream as the compiled part sees it: its slots, and ``write`` for unsent bytes."""

    __slots__ = ("_streaming", "_write_buffer", "connected", "late", "stuck", "waits")
    FAST_PATH_BLOCKERS = ("stuck", "waits")

    def __init__(self):
        self._write_buffer, self.late = WriteBuffer(), b""
        self._streaming = self.connected = True
        self.stuck, self.waits = False, None

    def write(self, octets):
        assert type(octets) is bytes
        self.late += octets


class Pairs:
    """Two pairs of sockets, and a fast path from the one to the other.

    ``arguments`` of a subclass are those of the fast path.
    """

    def __init__(self):
        self.far_in, self.near_in = socket.socketpair()
        self.near_out, self.far_out = socket.socketpair()
        self.sockets = self.far_in, self.near_in, self.near_out, self.far_out
        for each in self.sockets:
            each.setblocking(False)
        self.source, self.target = Ends(), Ends()

    def arguments(self, kind, *objects):
        ends = (self.near_in.fileno(), 0), (self.near_out.fileno(), 0)
        return [kind, objects, self.source, self.target, None, *ends]

    def fast_path(self):
        return fast_path._compiled.FastPath(*self.arguments())

    def go(self, chunk=b""):
        if chunk:
            assert self.far_in.send(chunk) == len(chunk)
        return self.fast_path()()

    @property
    def late(self):
        return self.target.late

    def close(self):
        for each in self.sockets:
            each.close()
