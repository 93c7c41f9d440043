"""Tests of bytes that pass from socket to socket through the pipe, since no scanner has to see them."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys

import pytest

from esxiproxy.core.errors import MalformedRequest
from esxiproxy.core.http.body import FixedBody
from esxiproxy.core.http.chunked_body import ChunkedBody
from esxiproxy.core.websocket.frames import FrameWalker
from esxiproxy.net.transport.constants import READ_SIZE
from tests.net.transport.fast_path_scene import compiled, tcp_pair
from tests.net.transport.test_fast_path import Going
from tests.net.transport.test_fast_path_bodies import Passing
from tests.support.websocket import frame

pytestmark = compiled
PAIRS = {"unix": socket.socketpair, "tcp": tcp_pair}
MANY = 1_000_000


@pytest.fixture(params=PAIRS.values(), ids=PAIRS)
def piped(request):
    made = []

    def make(what):
        kind = Going if isinstance(what, FrameWalker) else Passing
        made.append(kind(what, request.param))
        return made[-1]

    yield make
    for each in made:
        each.close()


def receive(one):
    """Return what the far end has received, and read all of it."""
    octets = b""
    while True:
        try:
            octets += one.far_out.recv(1 << 20)
        except BlockingIOError:
            return octets


def pass_all(rng, scenes, sent, sizes=(1, 1000, 200_000)):
    """Send bytes through fast paths in turn, while the far ends read at random, and return what arrives."""
    ways, at, got = [one.fast_path() for one in scenes], [0] * len(scenes), [b""] * len(scenes)
    for one in scenes:
        one.near_out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
    while any(len(all_got) < len(octets) for all_got, octets in zip(got, sent, strict=True)):
        for i, one in enumerate(scenes):
            if at[i] < len(sent[i]) and rng.random() < 0.7:
                with contextlib.suppress(BlockingIOError):
                    at[i] += one.far_in.send(sent[i][at[i] : at[i] + rng.choice(sizes)])
            if not one.late and (left := ways[i]()) is not None:
                with contextlib.suppress(BlockingIOError):  # as Python does with what is left to it
                    one.target.write(one.body.take(left or one.near_in.recv(READ_SIZE)))
            if rng.random() < 0.5:
                got[i] += receive(one)
            if one.late:
                with contextlib.suppress(BlockingIOError):
                    one.target.late = one.late[one.near_out.send(one.late) :]
    return got


def test_bodies_share_the_pipe_and_keep_their_bytes(piped):
    """Bytes that one target does not take must not get into another body."""
    rng = random.Random(1)
    scenes = [piped(FixedBody(MANY)) for _ in range(3)]
    sent = [rng.randbytes(MANY - 1) for _ in scenes]
    assert pass_all(rng, scenes, sent) == sent
    assert [one.state()[:2] for one in scenes] == [(1, MANY - 1)] * 3


def test_large_chunks_pass_and_their_lines_are_checked(piped):
    rng = random.Random(2)
    chunks = b"".join(b"%x\r\n%b\r\n" % (300_000, rng.randbytes(300_000)) for _ in range(2))
    one = piped(ChunkedBody(MalformedRequest, "the body", tuple))
    assert pass_all(rng, [one], [chunks]) == [chunks] and one.body.octets == 600_000
    one = piped(ChunkedBody(MalformedRequest, "the body", tuple))
    whole = b"%x\r\n%b" % (300_000, bytes(300_000))
    assert pass_all(rng, [one], [whole]) == [whole] and one.body.left == 2
    assert one.go(b"x\n") == b"x\n" and receive(one) == b""


def test_a_large_chunk_passes_up_to_max_body(piped):
    one = piped(ChunkedBody(MalformedRequest, "the body", tuple, 250_000))
    octets = b"%x\r\n%b" % (300_000, bytes(250_000))
    assert pass_all(random.Random(3), [one], [octets]) == [octets] and one.body.octets == 250_000
    assert one.go(b"x") == b"x" and one.body.octets == 250_000


def test_large_frames_pass_and_their_headers_are_checked(piped):
    rng = random.Random(4)
    one = piped(FrameWalker(False))
    octets = b"".join(frame(2, rng.randbytes(300_000)) for _ in range(2))
    assert pass_all(rng, [one], [octets], [150_005]) == [octets] and one.octets == len(octets) and one.heard
    assert one.go(b"\x83\x00") == b"\x83\x00"


def test_nothing_the_end_and_a_reset_are_three_things(piped):
    one = piped(FixedBody(MANY))
    assert one.go() is None and not one.body.heard
    assert one.go(b"x") is None and one.body.octets == 1
    one.far_in.close()
    assert one.go() == b""
    if one.near_in.family == socket.AF_INET:
        other = piped(FixedBody(MANY))
        other.far_in.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        other.far_in.close()
        with pytest.raises(ConnectionResetError):
            other.go()


def test_a_target_that_has_ended_gets_all_bytes_by_write(piped):
    one, other = piped(FixedBody(MANY)), piped(FixedBody(MANY))
    one.near_out.close()
    assert one.go(b"x" * 1000) is None and one.late == b"x" * 1000
    assert other.go(b"y" * 1000) is None and receive(other) == b"y" * 1000


def test_a_source_that_has_no_pipe_is_read_into_the_buffer(piped):
    """A packet socket is one that cannot be spliced."""
    one = piped(FixedBody(MANY))
    one.near_in.close()
    one.far_in, one.near_in = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for each in (one.far_in, one.near_in):
        each.setblocking(False)
    assert one.go(b"x" * READ_SIZE) is None and one.body.octets == READ_SIZE
    assert receive(one) + one.late == b"x" * READ_SIZE
    one.far_in.close()
    one.near_in.close()


FORK = """
import os
from esxiproxy.net.transport import _compiled
from tests.net.transport.test_fast_path_pipe import open_pipes

def pipes():
    return {link for fd, link in open_pipes().items() if fd > 2}

before = pipes()
child = os.fork()
if child == 0:
    mine = pipes()
    os._exit(0 if len(mine) == len(before) == 1 and not mine & before else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or pipes() != before)
"""


DAEMON = """
import os, sys
assert "esxiproxy.net.transport._compiled" not in sys.modules
for fd in (0, 1, 2):
    os.close(fd)
from esxiproxy.net.transport import _compiled
null = os.open("/dev/null", os.O_RDWR)
for fd in (0, 1, 2):
    os.dup2(null, fd)

import socket
from tests.net.transport import test_fast_path_pipe as tests

read, write = sorted(tests.open_pipes())

def check():
    one = tests.Passing(tests.FixedBody(tests.MANY), socket.socketpair)
    for _ in range(2):
        if one.go(b"x" * 1000) is not None or tests.receive(one) + one.late != b"x" * 1000:
            os._exit(1)
    one.close()

check()
os.close(read)
check()
os.close(write)
check()
os._exit(7)
"""
"""A daemon that was started without standard input, output and error, and then opens these."""


def open_pipes():
    """Return the pipes of this process by their descriptors."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            link = os.readlink(f"/proc/self/fd/{fd}")
            if link.startswith("pipe:"):
                found[int(fd)] = link
    return found


def test_a_child_process_has_a_pipe_of_its_own():
    assert subprocess.run([sys.executable, "-c", FORK], timeout=60).returncode == 0


def test_the_pipe_has_no_descriptor_of_the_standard_files_and_may_be_closed():
    assert subprocess.run([sys.executable, "-c", DAEMON], timeout=60).returncode == 7
