"""Tests that a port without descriptors pauses, logs it once in LOG_INTERVAL, and resumes."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import ExitStack, closing
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from twisted.internet.task import Clock

from esxiproxy.net.transport import port as ports
from tests.net.transport.loop import Net, Peer


class Listening:
    """A listening socket whose ``_accept`` fails a given number of times and counts its calls."""

    def __init__(self, sock, *numbers):
        self._socket, self.numbers, self.asked = sock, list(numbers), 0

    def __getattr__(self, name):
        return getattr(self._socket, name)

    def _accept(self):
        self.asked += 1
        if self.numbers:
            raise OSError(self.numbers.pop(0), "from the test")
        return self._socket._accept()


@pytest.fixture
def reasons(monkeypatch):
    """Return the reasons of the logged errors."""
    reasons = []
    monkeypatch.setattr(ports, "_last_logged", [])
    monkeypatch.setattr(ports._log, "error", lambda text, why: reasons.append(why))
    return reasons


def listening(net, peers, *numbers):
    port = net.listen(*peers)
    port.socket = Listening(port.socket, *numbers)
    return port


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
def test_a_client_waits_while_no_descriptor_is_left(ours, reasons, number):
    """A paused port calls accept once in ACCEPT_RETRY, and logs one error."""
    server, client = Peer(), Peer()
    port = listening(ours, [server], *[number] * 3)
    ours.dial(port, client)
    ours.until(lambda: server.made)
    assert client.made and client.lost is None
    assert len(reasons) == 1 and port.socket.asked <= 5


def test_a_connection_that_was_aborted_in_the_queue_does_not_pause_the_port(ours, reasons):
    server = Peer()
    port = listening(ours, [server], errno.ECONNABORTED, errno.EPERM)
    ours.dial(port, Peer())
    ours.until(lambda: server.made)
    assert not reasons


def test_a_port_pauses_while_has_descriptors_is_false(ours, reasons):
    """The connection is not accepted, since it would take the descriptor of an accepted client."""
    server, room = Peer(), [False, False, True]
    port = listening(ours, [server])
    port.has_descriptors = lambda: room.pop(0) if room else True
    ours.dial(port, Peer())
    ours.until(lambda: server.made)
    assert reasons == ["few descriptors are left"] and not room


def test_two_ports_log_one_error(ours, reasons):
    ends = [Peer(), Peer()]
    for end in ends:
        ours.dial(listening(ours, [end], errno.EMFILE), Peer())
    ours.until(lambda: all(end.made for end in ends))
    assert len(reasons) == 1


def test_a_port_that_is_closed_while_it_is_paused_stays_closed(ours, reasons):
    port = listening(ours, [Peer()], *[errno.EMFILE] * 1000)
    ours.dial(port, Peer())
    ours.until(lambda: reasons)
    asked = port.socket
    done = []
    port.stopListening().addCallback(lambda _: done.append(True))
    ours.until(lambda: done)
    before, woken = asked.asked, []
    ours.reactor.callLater(3 * ports.ACCEPT_RETRY, woken.append, True)
    ours.until(lambda: woken)
    assert asked.asked == before


@pytest.fixture
def paused(ours_plain, reasons):
    """Return a port with a fake clock that pauses at its first client, which waits, and its server."""
    server = Peer()
    port = listening(ours_plain, [server], errno.EMFILE)
    port.reactor = Clock()
    ours_plain.dial(port, Peer())
    ours_plain.until(lambda: reasons)
    return port, server


def test_a_port_that_is_told_to_stop_while_it_is_paused_stays_stopped(ours_plain, paused):
    """A drain stops a port permanently, and the gate of a worker stops it until it opens again."""
    port, server = paused
    port.stopReading()
    assert not port.reactor.getDelayedCalls()
    port.reactor.advance(ports.ACCEPT_RETRY)
    ours_plain.settle(3)
    assert port.socket.asked == 1 and not server.made
    port.startReading()
    ours_plain.until(lambda: server.made)


def test_a_port_that_is_told_to_start_while_it_is_paused_starts_once(ours_plain, paused):
    port, server = paused
    port.startReading()
    assert not port.reactor.getDelayedCalls()
    ours_plain.until(lambda: server.made)


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENOSPC])
def test_a_port_that_the_loop_cannot_register_pauses_again(ours_plain, paused, monkeypatch, number):
    port, server = paused
    with monkeypatch.context() as full:
        full.setattr(port.loop, "addReader", Mock(side_effect=OSError(number, "from the test")))
        for _ in range(3):
            port.reactor.advance(ports.ACCEPT_RETRY)
        assert port.loop.addReader.call_count == 3
    ours_plain.settle(3)
    assert not server.made
    port.reactor.advance(ports.ACCEPT_RETRY)
    ours_plain.until(lambda: server.made)
    assert not port.reactor.getDelayedCalls()


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, asyncio.CancelledError])
def test_a_protocol_that_cannot_be_built_ends_that_connection_only(ours, monkeypatch, error):
    reasons, server = [], Peer()
    monkeypatch.setattr(ports._log, "failure", reasons.append)
    port = listening(ours, [server])
    build, calls = port.factory.buildProtocol, []

    def build_second(address):
        calls.append(address)
        if len(calls) == 1:
            raise error("from the test")
        return build(address)

    port.factory.buildProtocol = build_second
    first = Peer()
    ours.dial(port, first)
    ours.until(lambda: first.lost)
    ours.dial(port, Peer())
    ours.until(lambda: server.made)
    assert len(reasons) == 1


def test_many_waiting_clients_are_admitted_in_turns(ours):
    """A turn accepts ACCEPTS_PER_TURN connections at most, and the next turn continues."""
    count = ports.ACCEPTS_PER_TURN + 10
    servers = [Peer() for _ in range(count)]
    port = listening(ours, servers)
    port.socket.listen(count)
    for _ in range(count):
        ours.dial(port, Peer())
    ours.until(lambda: all(server.made for server in servers))
    assert port.socket.asked >= count


class Gate:
    """A gate that counts connections as a worker's gate does."""

    def __init__(self):
        self.held = 0

    def may_accept(self):
        return True

    def count_connection(self):
        self.held += 1
        return SimpleNamespace(transport=None, connectionLost=self._left)

    def _left(self, reason):
        self.held -= 1


def _in_the_stream(port, monkeypatch):
    monkeypatch.setattr(port.loop, "addReader", _no_room)


def _in_the_factory(port, monkeypatch):
    monkeypatch.setattr(port.factory, "buildProtocol", _no_room)


def _no_room(*_args):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("fails", [_in_the_stream, _in_the_factory])
def test_a_connection_that_cannot_be_served_is_closed_and_counts_no_more(ours, monkeypatch, fails):
    """After the loop had no memory for a descriptor, the next connection is served."""
    reasons, server = [], Peer()
    monkeypatch.setattr(ports._log, "failure", reasons.append)
    port = listening(ours, [Peer(), server])
    port.gate = gate = Gate()
    address = ("127.0.0.1", port.getHost().port)
    with monkeypatch.context() as broken, socket.create_connection(address) as client:
        client.settimeout(10)
        fails(port, broken)
        ours.until(lambda: reasons)
        assert client.recv(1) == b"" and gate.held == 0
    ours.dial(port, Peer())
    ours.until(lambda: server.made or gate.held)
    assert gate.held == 1 and len(reasons) == 1


def test_accepted_connections_have_no_delay_and_the_address_of_their_port(ours_plain):
    """Neither needs a system call for each connection."""
    peer = Peer()
    client, _ = ours_plain.pair(server=peer)
    assert peer.transport.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert peer.transport.getHost() == client.transport.getPeer()
    assert peer.transport._host is not None
    peer.transport.setTcpNoDelay(False)
    assert not peer.transport.getTcpNoDelay()
    peer.transport.setTcpNoDelay(True)
    assert peer.transport.getTcpNoDelay()


@pytest.mark.parametrize("transports", ["", "python"])
def test_a_turn_of_the_reactor_accepts_a_bounded_number_of_a_crowd(certificate, monkeypatch, transports):
    """Timers, threads and other descriptors are served between the turns."""
    monkeypatch.setenv("ESXIPROXY_TRANSPORTS", transports)
    crowd = 450
    with closing(Net(True, False, certificate)) as net, ExitStack() as clients:
        port = listening(net, [], *[errno.ECONNABORTED] * ports.ACCEPTS_PER_TURN)
        port.socket.listen(crowd)
        for _ in range(crowd):
            clients.enter_context(socket.create_connection(("127.0.0.1", port.getHost().port)))
        turns = []
        for _ in range(20):
            before = port.socket.asked
            net.core.doIteration(0)
            turns.append(port.socket.asked - before)
        assert max(turns) == ports.ACCEPTS_PER_TURN
        assert sum(turns) == ports.ACCEPTS_PER_TURN + crowd + 1  # the last one finds an empty queue
