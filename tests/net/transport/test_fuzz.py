"""Tests that random chunks with random pauses at both ends arrive unchanged."""

from __future__ import annotations

import random
import socket

import pytest
from twisted.internet.error import ConnectionDone

from tests.net.transport.loop import Peer

SIZES = (1, 2, 64, 1000, 4096, 16383, 16384, 16385, 65536, 300_000)
TOTAL = 1_000_000


class End:
    """A peer that writes random chunks while it may, and pauses and resumes its reading at random."""

    def __init__(self, rng, total):
        self.rng = rng
        self.sent = rng.randbytes(total)
        self.at = 0
        self.blocked = False
        self.paused = False
        self.peer = Peer()
        self.peer.on_octets = self.received

    def pauseProducing(self):
        self.blocked = True

    def resumeProducing(self):
        self.blocked = False
        if self.rng.random() < 0.5:
            self.write()

    def stopProducing(self):
        pass

    def received(self, _peer, _octets):
        assert not self.paused
        if self.rng.random() < 0.2:
            self.pause(True)
        if self.rng.random() < 0.2:
            self.write()

    def pause(self, paused):
        self.paused = paused
        transport = self.peer.transport
        if paused:
            transport.pauseProducing()
        else:
            transport.resumeProducing()

    def write(self):
        count = min(self.rng.choice(SIZES), len(self.sent) - self.at)
        chunk = self.sent[self.at : self.at + count]
        self.at += count
        if self.rng.random() < 0.2:
            self.peer.transport.writeSequence([chunk[: count // 3], chunk[count // 3 :]])
        else:
            self.peer.transport.write(chunk)

    def step(self):
        for _ in range(self.rng.randrange(4)):
            if self.at < len(self.sent) and not self.blocked:
                self.write()
        if self.rng.random() < 0.3:
            self.pause(not self.paused)


@pytest.mark.parametrize("seed", range(6))
def test_bytes_in_are_bytes_out(ours, seed):
    rng = random.Random(seed)
    client, server = (End(rng, rng.randrange(TOTAL)) for _ in range(2))
    ours.pair(client.peer, server.peer)
    ends = (client, server)
    for end in ends:
        handle = end.peer.transport.socket
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, rng.choice((30_000, 200_000)))
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rng.choice((30_000, 200_000)))
        end.peer.transport.setTcpNoDelay(True)
        end.peer.transport.registerProducer(end, True)

    def done():
        for end in ends:
            end.step()
            assert end.peer.lost is None
        return len(client.peer.got) == len(server.sent) and len(server.peer.got) == len(client.sent)

    ours.until(done, 60)
    assert bytes(client.peer.got) == server.sent
    assert bytes(server.peer.got) == client.sent
    for end in ends:
        end.pause(False)
        end.peer.transport.unregisterProducer()
    client.peer.transport.loseConnection()
    ours.until(lambda: client.peer.lost and server.peer.lost)
    assert isinstance(client.peer.lost, ConnectionDone)
    assert isinstance(server.peer.lost, ConnectionDone)
