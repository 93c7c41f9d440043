"""Tests of the TLS transport: identity, handshake, and close_notify."""

from __future__ import annotations

import socket
import ssl

import pytest
from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.interfaces import IHalfCloseableProtocol
from zope.interface import implementer

from esxiproxy.core.config.model import ListenerTLS
from esxiproxy.core.routing import Upstream, Verify
from esxiproxy.core.thumbprint import Pin
from esxiproxy.net.tls.client import UpstreamTLS
from esxiproxy.net.tls.server import CurrentContext, listener_context
from esxiproxy.net.transport.tls import TLSStream
from esxiproxy.net.transport.tls_start import TLSFactory
from tests.net.transport.loop import One, Peer, client_creator, in_thread, noise


def blocking_client(port, suppress=False):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    sock = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=20)
    return context.wrap_socket(sock, server_hostname="server.test", suppress_ragged_eofs=suppress)


def test_the_handshake_completes_once_before_anything_is_read(secure):
    client, server = Peer(), Peer()
    seen = []
    client.on_made = lambda peer: peer.transport.write(b"early")
    server.on_made = lambda peer: seen.append("made")
    server.on_shaken = lambda peer: seen.append("shaken")
    server.on_octets = lambda peer, octets: seen.append("read")
    secure.pair(client, server)
    secure.until(lambda: server.got)
    assert seen == ["made", "shaken", "read"]
    assert client.shaken == 1


def test_the_first_write_may_be_in_handshake_completed(secure):
    client, server = Peer(), Peer()
    client.on_shaken = lambda peer: peer.transport.write(b"request")
    secure.pair(client, server)
    secure.until(lambda: bytes(server.got) == b"request")


def test_an_abort_in_handshake_completed_sends_nothing(secure):
    """An upstream with the wrong certificate is disconnected in this way."""
    client, server = Peer(), Peer()
    client.on_shaken = lambda peer: peer.transport.abortConnection()
    secure.dial(secure.listen(server), client)
    secure.until(lambda: client.lost and server.lost)
    assert not server.got
    if secure.ours:  # Twisted's TLS calls its own abort a loss
        assert isinstance(client.lost, error.ConnectionAborted)


def test_certificate_protocol_and_server_name_are_visible(secure, certificate):
    client, server = secure.pair()
    shown = client.transport.getPeerCertificate().to_cryptography()
    assert shown == certificate.certificate
    assert server.transport.getPeerCertificate() is None
    assert client.transport.negotiatedProtocol == server.transport.negotiatedProtocol == b"http/1.1"
    assert server.transport.getHandle().get_servername() == b"server.test"


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_both_versions_carry_and_close(secure, version):
    secure.client = client_creator(version)
    client, server = secure.pair()
    server.on_octets = lambda peer, octets: peer.transport.write(octets)
    sent = noise(300_000)
    client.transport.write(sent)
    secure.until(lambda: len(client.got) == len(sent))
    client.transport.loseConnection()
    secure.until(lambda: client.lost and server.lost)
    assert bytes(client.got) == sent
    assert isinstance(client.lost, error.ConnectionDone)
    assert isinstance(server.lost, error.ConnectionDone)


def test_an_end_without_close_notify_is_a_loss(secure):
    """Any host on the path can send a FIN."""
    server = Peer()
    port = secure.listen(server)

    def cut():
        with blocking_client(port) as tls:
            tls.sendall(b"half of")
            tls.recv(1)

    server.on_octets = lambda peer, _octets: peer.transport.write(b"x")
    in_thread(secure, cut)
    secure.until(lambda: server.lost)
    assert isinstance(server.lost, error.ConnectionLost)


def test_our_close_notify_is_sent(secure):
    server = Peer()
    port = secure.listen(server)
    server.on_octets = lambda peer, _octets: peer.transport.loseConnection()

    def talk():
        with blocking_client(port) as tls:
            tls.sendall(b"x")
            ended = tls.recv(10)
            tls.unwrap()
            return ended

    assert in_thread(secure, talk) == b""
    secure.until(lambda: server.lost)
    assert isinstance(server.lost, error.ConnectionDone)


def test_a_close_waits_for_the_peers_close_notify(secure):
    """Bytes that the peer sends still arrive; the caller has to abort if the peer sends no close_notify."""
    server = Peer()
    port = secure.listen(server)

    def close(peer, octets):
        if octets == b"first":
            peer.transport.loseConnection()

    server.on_octets = close

    def talk():
        with blocking_client(port) as tls:
            tls.sendall(b"first")
            assert tls.recv(10) == b""
            tls.sendall(b"second")
            tls.unwrap()

    assert in_thread(secure, talk) is None
    secure.until(lambda: server.lost)
    assert bytes(server.got) == b"firstsecond"
    assert isinstance(server.lost, error.ConnectionDone)


def test_a_half_close_closes_the_connection(ours_secure):
    """Written bytes and a close_notify are sent; the peer's close_notify ends the connection."""
    server = Peer()
    port = ours_secure.listen(server)

    def answer(peer, _octets):
        peer.transport.write(b"all of it")
        peer.transport.loseWriteConnection()
        peer.transport.write(b", and more")

    server.on_octets = answer

    def talk():
        with blocking_client(port) as tls:
            tls.sendall(b"x")
            answers = [tls.recv(100), tls.recv(100)]  # an end without close_notify would raise
            tls.unwrap()
            return answers

    assert in_thread(ours_secure, talk) == [b"all of it", b""]
    ours_secure.until(lambda: server.lost)
    assert isinstance(server.lost, error.ConnectionDone)


def test_a_half_close_of_the_peer_closes_the_connection(ours_secure):
    """An IHalfCloseableProtocol gets connectionLost, and no call for one half."""
    halves = []

    @implementer(IHalfCloseableProtocol)
    class Half(Peer):
        def readConnectionLost(self):
            halves.append("read")

        def writeConnectionLost(self):
            halves.append("write")

    client, server = ours_secure.pair(Half(), Half())
    client.transport.loseWriteConnection()
    ours_secure.until(lambda: client.lost and server.lost)
    assert isinstance(client.lost, error.ConnectionDone)
    assert isinstance(server.lost, error.ConnectionDone)
    assert halves == []


def test_a_cut_during_the_handshake_is_a_loss(secure):
    server = Peer()
    port = secure.listen(server)
    with socket.create_connection(("127.0.0.1", port.getHost().port)):
        secure.until(lambda: server.made)
    secure.until(lambda: server.lost)
    assert isinstance(server.lost, error.ConnectionLost)
    assert not server.shaken


def test_data_that_is_not_tls_is_an_error_of_tls(secure):
    server = Peer()
    port = secure.listen(server)
    with socket.create_connection(("127.0.0.1", port.getHost().port)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        secure.until(lambda: server.lost)
    assert type(server.lost) is SSL.Error
    assert server.lost.args[0]
    assert not server.shaken


def test_a_bad_record_is_an_error_of_tls(secure):
    server = Peer()
    port = secure.listen(server)

    def talk():
        tls = blocking_client(port)
        tls.sendall(b"x")
        raw = socket.socket(fileno=tls.detach())
        raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        raw.settimeout(20)
        try:
            while raw.recv(1000):
                pass
        except OSError:
            pass
        raw.close()

    in_thread(secure, talk)
    secure.until(lambda: server.lost)
    assert type(server.lost) is SSL.Error
    assert bytes(server.got) == b"x"


def test_a_close_during_the_handshake_aborts(secure):
    client, server = Peer(), Peer()
    client.on_made = lambda peer: peer.transport.loseConnection()
    secure.dial(secure.listen(server), client)
    secure.until(lambda: client.lost and server.lost)
    if secure.ours:  # Twisted's TLS calls its own abort a loss
        assert isinstance(client.lost, error.ConnectionAborted)
    assert not client.lost_in_call


def test_a_close_behind_early_bytes_waits_for_the_handshake(secure):
    client, server = Peer(), Peer()

    def early(peer):
        peer.transport.write(b"early")
        peer.transport.loseConnection()

    client.on_made = early
    secure.dial(secure.listen(server), client)
    secure.until(lambda: client.lost and server.lost)
    assert bytes(server.got) == b"early"


def test_tls_that_cannot_be_made_is_the_end_for_the_protocol(ours_secure):
    """``connectionLost`` releases the slots of a connection."""
    client, server = Peer(), Peer()
    port = ours_secure.listen(server)

    def raises(_socket):
        raise RuntimeError("from the test")

    ours_secure.client.connection = raises
    ours_secure.dial(port, client)
    ours_secure.until(lambda: isinstance(client.lost, RuntimeError))
    assert not client.made


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_an_upstreams_session_is_resumed(ours_secure, version):
    """The second handshake is abbreviated, and its certificate can be checked again."""
    net = ours_secure
    net.client = client_creator(version)
    resumed = []
    for _ in range(3):
        client, server = net.pair()
        server.transport.write(b"ticket")
        net.until(lambda c=client: c.got)
        assert client.transport.getPeerCertificate() is not None
        resumed.append(SSL._lib.SSL_session_reused(client.transport.getHandle()._ssl))
        client.transport.loseConnection()
        net.until(lambda c=client, s=server: c.lost and s.lost)
    assert resumed == [0, 1, 1]


def test_a_session_is_not_remembered_before_anything_was_read(ours_secure):
    """After the protocol rejects a certificate, no session is kept."""
    client, server = Peer(), Peer()
    client.on_shaken = lambda peer: peer.transport.abortConnection()
    ours_secure.dial(ours_secure.listen(server), client)
    ours_secure.until(lambda: client.lost)
    assert ours_secure.resumption._session is None


def test_nothing_stays_behind_in_openssl(ours_secure):
    client, server = ours_secure.pair()
    pending = []
    server.on_octets = lambda peer, _octets: pending.append(peer.transport.getHandle().pending())
    client.transport.write(noise(200_000))
    ours_secure.until(lambda: len(server.got) == 200_000)
    assert set(pending) == {0}
    assert max(server.chunks) <= 6 * 16384


def test_the_reactors_own_calls_put_tls_on_the_socket(ours_secure, certificate):
    """listenSSL and connectSSL accept the creators of a listener and of an upstream."""
    net = ours_secure
    listening = CurrentContext(listener_context(ListenerTLS(certificate.path, certificate.key_path)))
    pin = Pin("sha256", certificate.sha256)
    dialling = UpstreamTLS(Upstream("esxi1", "server.test", 443, True, Verify.PIN, pins=(pin,)))
    client, server = Peer(), Peer()
    port = net.reactor.listenSSL(0, One(server), listening, interface="127.0.0.1")
    net._open.append(port)
    client.on_shaken = lambda peer: dialling.verify_peer(peer.transport) or peer.transport.write(b"ping")
    server.on_octets = lambda peer, octets: peer.transport.write(octets[::-1])
    host = port.getHost()
    net.reactor.connectSSL(host.host, host.port, One(client), dialling)
    net.until(lambda: bytes(client.got) == b"gnip")
    assert type(client.transport) is type(server.transport) is TLSStream
    assert server.transport.getHandle().get_servername() == b"server.test"
    assert client.transport.negotiatedProtocol == b"http/1.1"
    client.transport.loseConnection()
    net.until(lambda: client.lost and server.lost)


def test_the_tls_of_twisteds_creators_is_twisteds(ours_secure):
    """Twisted's creators need memory BIOs, so Twisted's TLS is used."""
    from twisted.internet.ssl import CertificateOptions

    net = ours_secure
    server, client = Peer(), Peer()
    options = CertificateOptions()
    options.getContext()
    port = net.listen(server)
    host = port.getHost()
    net.reactor.connectSSL(host.host, host.port, One(client), options)
    client.on_made = lambda peer: peer.transport.write(b"memory")
    net.until(lambda: bytes(server.got) == b"memory")


@pytest.mark.parametrize("first", [b"\x16", b"GET / HTTP/1.1"])
def test_whether_a_client_has_sent_anything_is_known_before_its_handshake_is_over(secure, first):
    server = Peer()
    factory = TLSFactory(secure.server, False, One(server), secure.reactor)
    port = secure.reactor.listenTCP(0, factory, interface="127.0.0.1")
    with socket.create_connection(("127.0.0.1", port.getHost().port)) as client:
        secure.until(lambda: server.made)
        secure.settle()
        transport = server.transport
        assert transport.has_received is False
        client.sendall(first)
        secure.until(lambda: transport.has_received)
    secure.until(lambda: server.lost)
    port.stopListening()
