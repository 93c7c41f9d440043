"""Tests of connectors: their results, and the turn in which they connect."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import socket
import struct
from pathlib import Path

import pytest
from twisted.internet import error
from twisted.logger import globalLogPublisher

from tests.net.transport.loop import One, Peer


def test_bytes_that_arrive_before_the_connect_is_handled_are_delivered_once(plain):
    """In one event, the read finishes the connect, and the reactor then calls doWrite again."""
    events = []
    globalLogPublisher.addObserver(events.append)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            peer = Peer()
            plain.reactor.connectTCP(*listening.getsockname(), One(peer), 5.0)
            plain.core.runUntilCurrent()  # the connect begins, and its event is not handled yet
            accepted, _ = listening.accept()
            with accepted:
                accepted.sendall(b"first")
                plain.until(lambda: peer.got == b"first")
                peer.transport.abortConnection()
                plain.until(lambda: peer.lost)
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert not [event for event in events if event.get("isError")]


def test_a_host_that_resets_before_we_look_has_reset_and_not_refused(plain):
    """The kernel reports a refused and a reset connection with different errors."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        factory = One(Peer())
        plain.reactor.connectTCP(*listening.getsockname(), factory, 5.0)
        plain.core.runUntilCurrent()
        accepted, _ = listening.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        plain.until(lambda: factory.failed)
    assert factory.failed.osError == errno.ECONNRESET


def sockets():
    gc.collect()  # what other tests have left behind is not to be closed meanwhile
    found = [Path("/proc/self/fd", number) for number in os.listdir("/proc/self/fd")]
    return sum(os.path.exists(each) and os.readlink(each).startswith("socket:") for each in found)


def test_a_stopped_dial_fails_once_and_leaves_nothing(plain):
    before = sockets()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        factory = One(Peer())
        connector = plain.reactor.connectTCP(*listening.getsockname(), factory)
        connector.stopConnecting()
        assert isinstance(factory.failed, error.UserError)
        factory.failed = None
        plain.settle()
        assert factory.failed is None and factory.peers, "neither built nor told again"
        with pytest.raises(error.NotConnectingError):
            connector.stopConnecting()
    assert sockets() == before


def test_without_a_descriptor_the_dial_fails_and_not_its_caller(plain):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    factory = One(Peer())
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        plain.reactor.connectTCP("127.0.0.1", 9, factory)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    plain.until(lambda: factory.failed is not None)
    assert isinstance(factory.failed, error.ConnectError) and factory.failed.osError == 24


@pytest.mark.parametrize("raised", [RuntimeError, SystemExit, asyncio.CancelledError])
def test_a_factory_that_raises_costs_its_connection_and_no_turns(ours_plain, raised):
    """The socket must be unregistered from the loop, where it would always be ready."""
    server = Peer()
    port = ours_plain.listen(server)
    factory = ours_plain.dial(port, Peer())

    def build(_address):
        raise raised("from the test")

    factory.buildProtocol = build
    ours_plain.until(lambda: server.made and server.lost is not None)
    assert [entry[0] for entry in ours_plain.reactor._epoll_loop._entries.values()] == [port]


def test_a_dial_that_is_on_its_way_when_the_reactor_stops_fails(ours_plain):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = [socket.create_connection(full.getsockname()) for _ in range(1)]
        client = Peer()
        factory = One(client)
        ours_plain.reactor.connectTCP(*full.getsockname(), factory, 5.0)
        ours_plain.core.disconnectAll()
        assert factory.failed is not None and not client.made
        for each in waiting:
            each.close()


def test_an_interface_that_is_not_there_fails_the_dial(ours_plain):
    factory = One(Peer())
    ours_plain.reactor.connectTCP("fe80::1%nowhere0", 9, factory)
    ours_plain.until(lambda: factory.failed is not None)
    assert isinstance(factory.failed, error.ConnectError)


def test_a_name_and_an_address_of_ours_are_left_to_twisted(plain):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = Peer()
        port = listening.getsockname()[1]
        plain.reactor.connectTCP("127.0.0.1", port, One(peer), bindAddress=("127.0.0.2", 0))
        plain.core.runUntilCurrent()
        accepted, (host, _) = listening.accept()
        with accepted:
            plain.until(lambda: peer.made)
            assert host == "127.0.0.2"
            accepted.sendall(b"first")
            plain.until(lambda: peer.got == b"first")
            peer.transport.loseConnection()
            plain.until(lambda: peer.lost)


def test_a_host_that_disconnects_at_once_is_connected_and_lost(plain):
    """The error of a connected socket is reported once, by the connection or by the connector."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = Peer()
        factory = One(peer)
        plain.reactor.connectTCP(*listening.getsockname(), factory)
        plain.core.runUntilCurrent()
        accepted, _ = listening.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        accepted.close()
        plain.until(lambda: factory.failed is not None or peer.lost is not None)
        plain.settle()
    assert (factory.failed is None) == peer.made


def test_a_connection_that_the_loop_does_not_take_is_a_dial_that_failed(ours_plain, monkeypatch):
    """An unreported failure would always be counted as a connection of its host."""

    def no_room(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    before, loop = sockets(), ours_plain.reactor._epoll_loop
    with socket.create_server(("127.0.0.1", 0)) as listening:
        factory = One(Peer())
        with monkeypatch.context() as broken:
            broken.setattr(loop, "addReader", no_room)
            ours_plain.reactor.connectTCP(*listening.getsockname(), factory, 5.0)
            ours_plain.until(lambda: factory.failed)
        assert factory.failed.errno == errno.ENOSPC and not loop._entries
        peer = Peer()
        ours_plain.reactor.connectTCP(*listening.getsockname(), One(peer), 5.0)
        ours_plain.until(lambda: peer.made)
        peer.transport.abortConnection()
        ours_plain.until(lambda: peer.lost)
    assert sockets() == before
