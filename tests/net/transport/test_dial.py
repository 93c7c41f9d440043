"""What a dial does in the turn in which it connects."""

from __future__ import annotations

import socket

from twisted.logger import globalLogPublisher

from tests.net.transport.loop import One, Peer


def test_a_host_that_speaks_before_we_look_is_heard_once_and_without_a_complaint(plain):
    """Readable and writable in one event: the reactor reads, which connects, and then writes once more."""
    events = []
    globalLogPublisher.addObserver(events.append)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            peer = Peer()
            plain.reactor.connectTCP(*listening.getsockname(), One(peer), 5.0)
            plain.core.runUntilCurrent()  # it begins to connect, and nobody looks yet
            accepted, _ = listening.accept()
            with accepted:
                accepted.sendall(b"first")
                plain.until(lambda: peer.got == b"first")
                peer.transport.abortConnection()
                plain.until(lambda: peer.lost)
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert not [event for event in events if event.get("isError")]
