"""Tests of the fast path with rare results of OpenSSL, which scripted functions return."""

from __future__ import annotations

import ctypes

import pytest

from esxiproxy.core.websocket.frames import FrameWalker
from esxiproxy.net.transport import fast_path
from tests.net.transport.fast_path_scene import Ends
from tests.support.packages import NO_COMPILER
from tests.support.websocket import frame

pytestmark = pytest.mark.skipif(fast_path.compiled() is None, reason=NO_COMPILER)

ERROR_SSL, WANT_READ, WANT_WRITE, SYSCALL = 1, 2, 3, 5
SOURCE, TARGET = 1, 2
"""Addresses of the OpenSSL objects, which are not dereferenced."""
IO = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
GET_ERROR = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
CLEAR = ctypes.CFUNCTYPE(None)


class StandIn:
    """OpenSSL functions that return scripted bytes, counts or errors.

    Without a script, reads return WANT_READ and writes take all bytes.
    """

    def __init__(self):
        self.reads, self.writes = [], []
        self.sent, self.cleared, self._error = b"", 0, 0
        self._kept = IO(self._read), IO(self._write), GET_ERROR(self._get_error), CLEAR(self._clear)
        fast_path._compiled.openssl(*(ctypes.cast(each, ctypes.c_void_p).value for each in self._kept))

    def _read(self, ssl, buffer, size):
        assert ssl == SOURCE
        answer = self.reads.pop(0) if self.reads else WANT_READ
        if isinstance(answer, int):
            self._error = answer
            return -1
        assert len(answer) <= size
        ctypes.memmove(buffer, answer, len(answer))
        return len(answer)

    def _write(self, ssl, buffer, size):
        assert ssl == TARGET
        answer = self.writes.pop(0) if self.writes else size
        if answer < 0:
            self._error = -answer
            return -1
        self.sent += ctypes.string_at(buffer, min(answer, size))
        return min(answer, size)

    def _get_error(self, _ssl, _answer):
        return self._error

    def _clear(self):
        self.cleared += 1


class Leg:
    """A leg and its sink, both on TLS."""

    __slots__ = ("current_frame", "data", "heard", "held", "octets", "sink", "walker")

    def __init__(self):
        self.octets, self.heard, self.data, self.current_frame, self.held = 0, False, b"", None, {}
        self.walker, self.sink = FrameWalker(False), self


class Scene:
    def __init__(self):
        self.tls, self.leg, self.target = StandIn(), Leg(), Ends()
        streams = Ends(), self.target
        self.go = fast_path._compiled.FastPath(
            "frames", (self.leg, self.leg, self.leg.walker), *streams, None, (-1, SOURCE), (-1, TARGET)
        )


@pytest.fixture
def scene():
    yield Scene()
    assert fast_path._openssl_found()


SMALL, LARGE = frame(2, b"x" * 100), frame(2, b"y" * 16_000)


def test_records_are_written_together_until_none_is_left(scene):
    scene.tls.reads = [LARGE, LARGE, SMALL]
    assert scene.go() is None
    assert scene.tls.sent == LARGE + LARGE + SMALL and scene.leg.octets == len(scene.tls.sent)


def test_nothing_there_is_no_end(scene):
    assert scene.go() is None and not scene.leg.heard and not scene.tls.cleared


def test_a_small_record_is_the_last_one_read(scene):
    scene.tls.reads = [SMALL, AssertionError]
    assert scene.go() is None and scene.tls.sent == SMALL


@pytest.mark.parametrize("error", [ERROR_SSL, WANT_WRITE, SYSCALL])
def test_a_failed_read_is_returned_to_python_with_its_error(scene, error):
    scene.tls.reads = [error]
    assert scene.go() == b"" and not scene.tls.cleared and not scene.leg.heard


@pytest.mark.parametrize("error", [ERROR_SSL, WANT_WRITE, SYSCALL])
def test_bytes_before_a_failure_are_returned_and_the_error_is_cleared(scene, error):
    """These bytes are delivered first, and delivery may write to another connection."""
    scene.tls.reads = [LARGE, error]
    assert scene.go() == LARGE and scene.tls.cleared == 1
    assert not scene.tls.sent and scene.leg.walker.left == 0


def test_bytes_that_a_write_does_not_take_are_queued_in_order(scene):
    scene.tls.reads = [LARGE, SMALL]
    scene.tls.writes = [10_000, -WANT_WRITE]
    assert scene.go() is None
    assert scene.tls.sent + scene.target.late == LARGE + SMALL and len(scene.tls.sent) == 10_000
    assert scene.leg.octets == len(LARGE + SMALL)


@pytest.mark.parametrize("error", [WANT_READ, ERROR_SSL, SYSCALL])
def test_a_write_that_fails_offers_all_of_it_to_python_which_finds_out_why(scene, error):
    scene.tls.reads = [SMALL]
    scene.tls.writes = [-error]
    assert scene.go() is None
    assert scene.target.late == SMALL and scene.tls.cleared == 1


def test_after_a_write_that_was_not_taken_nothing_more_is_read(scene):
    scene.tls.reads = [LARGE] * 6 + [SMALL]
    scene.tls.writes = [-WANT_WRITE]
    assert scene.go() is None
    assert scene.tls.reads == [SMALL] and scene.target.late == LARGE * 6
