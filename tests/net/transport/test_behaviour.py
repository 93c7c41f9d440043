"""Tests of a transport's behaviour, over Twisted's transports and ours."""

from __future__ import annotations

import socket

import pytest
from twisted.internet import error
from twisted.internet.endpoints import TCP4ClientEndpoint, serverFromString
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.net.transport.loop import One, Peer, Producer, noise
from tests.support.programs import black_hole

BIG = 3_000_000


def test_an_echo_arrives(net):
    """Written bytes arrive in order in both directions."""
    client, server = net.pair()
    server.on_octets = lambda peer, octets: peer.transport.write(octets)
    sent = noise(BIG)
    for start in range(0, BIG, 100_000):
        client.do(client.transport.write, sent[start : start + 100_000])
    net.until(lambda: len(client.got) == BIG)
    assert bytes(client.got) == sent == bytes(server.got)


def test_a_sequence_is_written_in_order(net):
    client, server = net.pair()
    client.transport.writeSequence([b"a", b"", b"bc"])
    client.transport.write(b"")
    client.transport.write(b"d")
    net.until(lambda: bytes(server.got) == b"abcd")


def test_data_written_before_the_handshake_arrives_in_order(net):
    client, server = Peer(), Peer()
    client.on_made = lambda peer: [peer.transport.write(bytes([65 + n])) for n in range(5)]
    net.pair(client, server)
    net.until(lambda: bytes(server.got) == b"ABCDE")


def test_text_is_refused(net):
    client, _server = net.pair()
    with pytest.raises(TypeError):
        client.transport.write("text")
        client.transport.loseConnection()  # Twisted's TLS finds out when it flushes


def test_the_interfaces_are_provided(net):
    client, server = net.pair()
    for transport in (client.transport, server.transport):
        for interface in (ITCPTransport, IConsumer, IPushProducer):
            assert interface.providedBy(transport)
            if net.ours:
                verifyObject(interface, transport)
        assert ISSLTransport.providedBy(transport) == net.tls


def test_the_addresses_are_known(net):
    client, server = net.pair()
    assert client.transport.getPeer() == server.transport.getHost()
    assert client.transport.getHost() == server.transport.getPeer()
    assert client.transport.getPeer().host == "127.0.0.1"


def test_ipv6(net):
    client, server = Peer(), Peer()
    net.dial(net.listen(server, interface="::1"), client)
    net.until(lambda: client.made and server.made)
    client.transport.write(b"six")
    net.until(lambda: bytes(server.got) == b"six")
    assert client.transport.getPeer() == server.transport.getHost()
    assert server.transport.getPeer().host == "::1"


def test_unix_sockets(net, tmp_path):
    client, server = Peer(), Peer()
    path = str(tmp_path / "socket")
    net._open.append(net.reactor.listenUNIX(path, net.around(One(server), False)))
    net.reactor.connectUNIX(path, net.around(One(client), True))
    net.until(lambda: client.made and server.made)
    client.transport.write(b"unix")
    net.until(lambda: bytes(server.got) == b"unix")
    assert client.transport.getPeer().name == path.encode()
    assert server.transport.getHost().name == path.encode()
    server.transport.setTcpNoDelay(True)


def test_an_adopted_port_accepts(net):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        bound.setblocking(False)
        server, client = Peer(), Peer()
        port = net.reactor.adoptStreamPort(bound.fileno(), socket.AF_INET, net.around(One(server), False))
        net._open.append(port)
        net.dial(port, client)
        client.on_made = lambda peer: peer.transport.write(b"adopted")
        net.until(lambda: bytes(server.got) == b"adopted")


def test_endpoints_work(net):
    client, server = Peer(), Peer()
    ports = []
    endpoint = serverFromString(net.reactor, "tcp:0:interface=127.0.0.1")
    endpoint.listen(net.around(One(server), False)).addCallback(ports.append)
    net._open += ports
    at = ports[0].getHost().port
    TCP4ClientEndpoint(net.reactor, "127.0.0.1", at).connect(net.around(One(client), True))
    net.until(lambda: client.made)
    client.transport.write(b"endpoint")
    net.until(lambda: bytes(server.got) == b"endpoint")


def test_socket_options(net):
    client, server = net.pair()
    for transport in (client.transport, server.transport):
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        assert transport.getTcpNoDelay() and transport.getTcpKeepAlive()


# Connecting


def test_a_refused_connection_is_reported(net):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        factory = One(Peer())
        net.reactor.connectTCP("127.0.0.1", closed.getsockname()[1], net.around(factory, True))
        net.until(lambda: factory.failed is not None)
    assert isinstance(factory.failed, error.ConnectionRefusedError)


def test_connecting_has_a_timeout(net):
    with black_hole() as port:
        factory = One(Peer())
        net.reactor.connectTCP("127.0.0.1", port, net.around(factory, True), 0.1)
        net.until(lambda: factory.failed is not None)
    assert isinstance(factory.failed, error.TimeoutError)


def test_a_factory_without_a_protocol_closes(not_stock_tls):
    net = not_stock_tls  # Twisted's TLS factory wraps the None
    client = Peer()
    net.dial(net.listen(), client)
    net.until(lambda: client.lost is not None)


# Closing


def test_a_close_waits_for_queued_data(net):
    client, server = net.pair()
    sent = noise(BIG)
    client.do(client.transport.write, sent)
    client.do(client.transport.loseConnection)
    net.until(lambda: client.lost and server.lost)
    assert bytes(server.got) == sent
    assert isinstance(client.lost, error.ConnectionDone)
    assert isinstance(server.lost, error.ConnectionDone)
    assert not client.lost_in_call and not server.lost_in_call


def test_a_close_in_data_received(net):
    client, server = net.pair()

    def answer(peer, _octets):
        peer.transport.write(b"bye")
        peer.transport.loseConnection()

    server.on_octets = answer
    client.transport.write(b"hello")
    net.until(lambda: client.lost and server.lost)
    assert bytes(client.got) == b"bye"
    assert isinstance(client.lost, error.ConnectionDone)
    assert isinstance(server.lost, error.ConnectionDone)
    assert not server.lost_in_call


def test_an_abort_drops_queued_data(net):
    client, server = net.pair()
    server.transport.pauseProducing()
    client.do(client.transport.write, bytes(20_000_000))
    client.do(client.transport.abortConnection)
    net.until(lambda: client.lost)
    server.transport.resumeProducing()
    net.until(lambda: server.lost)
    if net.ours or not net.tls:  # Twisted's TLS says close_notify first, and calls its own abort a loss
        assert isinstance(client.lost, error.ConnectionAborted)
        assert isinstance(server.lost, error.ConnectionLost)
    assert len(server.got) < 20_000_000
    assert not client.lost_in_call


def test_data_written_after_an_abort_is_not_sent(plain):
    server = Peer()
    port = plain.listen(server)
    with socket.create_connection(("127.0.0.1", port.getHost().port)) as far:
        plain.until(lambda: server.made)
        server.do(server.transport.abortConnection)
        server.do(server.transport.write, b"after the abort")
        plain.until(lambda: server.lost is not None)
        with pytest.raises(ConnectionResetError):
            far.recv(100)


def test_a_reactor_that_stops_disconnects_every_protocol(net):
    client, server = net.pair()
    net.core.disconnectAll()
    assert client.lost is not None and server.lost is not None


def test_nothing_happens_after_the_end(net):
    client, server = net.pair()
    transport = client.transport
    client.transport.abortConnection()
    net.until(lambda: client.lost and server.lost)
    transport.write(b"x")
    transport.loseConnection()
    if net.ours or not net.tls:  # Twisted's TLS has let go of its connection, and raises
        transport.abortConnection()
        producer = Producer()
        transport.registerProducer(producer, True)
        assert producer.calls == ["stop"]
    net.settle()


def test_a_broken_write_is_found_by_the_loop(net):
    """After a reset by the peer, a write raises nothing, and connectionLost is called in a later turn."""
    client, server = net.pair()
    client.transport.pauseProducing()
    server.transport.abortConnection()
    net.until(lambda: server.lost)
    for _ in range(5):
        client.do(client.transport.write, b"into the void")
    assert client.lost is None
    net.until(lambda: client.lost)
    assert isinstance(client.lost, error.ConnectionLost)
    assert not client.lost_in_call


def two_connections(loop):
    """Open two connections, and return their clients and their servers."""
    first, second, a, b = Peer(), Peer(), Peer(), Peer()
    port = loop.listen(a, b)
    for client, server in ((first, a), (second, b)):
        loop.dial(port, client)
        loop.until(lambda server=server: server.made)
    return first, second, a, b


def bug(_peer, _argument):
    raise ValueError("a bug")


def test_a_bug_in_a_protocol_ends_its_connection_only(ours):
    first, second, a, b = two_connections(ours)
    a.on_octets = bug
    first.transport.write(b"x")
    second.transport.write(b"y")
    ours.until(lambda: a.lost and first.lost and bytes(b.got) == b"y")
    assert isinstance(a.lost, ValueError)
    assert b.lost is None


@pytest.mark.parametrize("raised", [RuntimeError, SystemExit])
def test_a_bug_in_connection_made_ends_its_connection_only(ours, raised):
    bug, client, other = Peer(), Peer(), Peer()

    def raises(_peer):
        raise raised("from the test")

    bug.on_made = raises
    port = ours.listen(bug, other)
    ours.dial(port, client)
    ours.until(lambda: client.lost is not None)
    assert bug.lost is not None
    ours.dial(port, Peer())
    ours.until(lambda: other.made)
    assert other.lost is None


@pytest.mark.parametrize("raised", [RuntimeError, SystemExit])
def test_a_bug_at_the_end_of_half_a_connection_ends_all_of_it(ours_plain, raised):
    @implementer(IHalfCloseableProtocol)
    class Half(Peer):
        def readConnectionLost(self):
            raise raised("from the test")

        def writeConnectionLost(self):
            pass

    client, server = Peer(), Half()
    ours_plain.pair(client, server)
    client.transport.loseWriteConnection()
    ours_plain.until(lambda: server.lost and client.lost)
    assert isinstance(server.lost, raised)


def test_a_bug_in_connection_lost_ends_nothing_else(ours):
    first, second, a, b = two_connections(ours)
    a.on_lost = bug
    first.transport.abortConnection()
    ours.until(lambda: a.lost and first.lost)
    second.transport.write(b"y")
    ours.until(lambda: bytes(b.got) == b"y")


def test_half_a_connection(plain):
    """A TCP connection can be half-closed and still read."""

    @implementer(IHalfCloseableProtocol)
    class Half(Peer):
        def __init__(self):
            super().__init__()
            self.halves = []

        def readConnectionLost(self):
            self.halves.append("read")

        def writeConnectionLost(self):
            self.halves.append("write")

    client, server = Half(), Half()
    plain.pair(client, server)
    client.transport.write(b"last")
    client.transport.loseWriteConnection()
    plain.until(lambda: client.halves and server.halves)
    assert bytes(server.got) == b"last"
    server.transport.write(b"answer")
    plain.until(lambda: bytes(client.got) == b"answer")
    assert client.halves == ["write"] and server.halves == ["read"]
    server.transport.loseConnection()
    plain.until(lambda: client.halves == ["write", "read"] and server.lost)
    client.transport.loseConnection()
    plain.until(lambda: client.lost)


def test_a_half_closed_peer_ends_a_protocol_that_knows_no_halves(plain):
    client, server = plain.pair()
    client.transport.loseWriteConnection()
    plain.until(lambda: client.lost and server.lost)
    assert isinstance(server.lost, error.ConnectionDone)
