"""Tests that a failed TLS handshake leaves one record with OpenSSL's reason, over both kinds of TLS."""

from __future__ import annotations

import socket
import ssl

import pytest
from twisted.logger import globalLogPublisher

from esxiproxy.core.config.model import ListenerTLS, TLSVersion
from esxiproxy.core.routing import Upstream
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.net.transport.tls_start import TLSFactory
from esxiproxy.ops.logs.session_log import MAX_REFUSAL_LINES, SessionLog
from esxiproxy.proxy import Proxy
from esxiproxy.routers.static import StaticRouter
from tests.net.scene import RefusalRecorder
from tests.net.transport.loop import in_thread
from tests.support.certificates import Authority


class Listening:
    """A TLS listener on a real socket, with the transports of a given net."""

    def __init__(self, net, tls, *observers, **limits):
        self.net = net
        self.seen = RefusalRecorder()
        router = StaticRouter(Upstream("esxi1", "127.0.0.1", 9, secure=False))
        proxy = Proxy(net.reactor, [self.seen, *observers], limits=SessionLimits(**limits))
        factory = proxy.listener("secure", router, tls=tls)
        assert isinstance(factory, TLSFactory)
        if not net.ours:
            factory.creator = None
        port = net.reactor.listenTCP(0, factory, interface="127.0.0.1")
        net._open.append(port)
        self.place = ("127.0.0.1", port.getHost().port)
        self.sessions = proxy.sessions

    def do(self, act):
        """Run a blocking client in a thread, and return its result or exception."""
        return in_thread(self.net, self._connected, act)

    def _connected(self, act):
        with socket.create_connection(self.place, timeout=20) as sock:
            return act(sock)

    def fault(self, act):
        """Return the only record that this client leaves."""
        self.do(act)
        self.net.until(lambda: self.seen.records)
        self.net.settle()
        (record,) = self.seen.records
        assert record.error == "TLSHandshakeFailed" and record.status == 0 and record.listener == "secure"
        assert record.client.host == "127.0.0.1" and not record.timeout
        return record


@pytest.fixture(scope="module")
def own(authority):
    return authority.server()


def files(own, **more):
    return ListenerTLS(own.path, own.key_path, **more)


def shaking(context, name="localhost"):
    def act(sock):
        with context.wrap_socket(sock, server_hostname=name) as tls:
            return tls.recv(1)  # in TLS 1.3 the server's alert comes behind the client's own success

    return act


def anybody(**settings):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def says(octets):
    def act(sock):
        sock.sendall(octets)
        while sock.recv(4096):
            pass

    return act


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def hello():
    """Return a complete ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = anybody().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_plain_http(secure, own):
    record = Listening(secure, files(own)).fault(says(b"GET /ticket/secret HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert record.detail == (
        "TLS handshake failed: http request: the client sent plain HTTP to a TLS listener"
    )
    assert record.ended_by == "proxy"


def test_something_else(secure, own):
    record = Listening(secure, files(own)).fault(says(b"SSH-2.0-OpenSSH_9.2\r\n"))
    assert "the client did not send TLS to a TLS listener" in record.detail


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_an_old_version(secure, own):
    old = anybody(minimum_version=ssl.TLSVersion.TLSv1_1, maximum_version=ssl.TLSVersion.TLSv1_1)
    record = Listening(secure, files(own)).fault(shaking(old))
    assert "unsupported protocol: the client has no TLS version that tls_minimum allows" in record.detail


def test_the_minimum(secure, own):
    listening = Listening(secure, files(own, minimum=TLSVersion.V1_3))
    record = listening.fault(shaking(anybody(maximum_version=ssl.TLSVersion.TLSv1_2)))
    assert "the client has no TLS version that tls_minimum allows" in record.detail


def test_no_protocol_in_common(secure, own):
    context = anybody()
    context.set_alpn_protocols(["h2"])
    record = Listening(secure, files(own)).fault(shaking(context))
    assert (
        "no application protocol: the client's ALPN list has neither http/1.1 nor http/1.0" in record.detail
    )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_client_certificate(secure, authority, own, version):
    listening = Listening(secure, files(own, client_ca=authority.path))
    record = listening.fault(shaking(anybody(minimum_version=version, maximum_version=version)))
    assert "client_ca is set, and the client sent no certificate" in record.detail


def test_a_certificate_of_another_host(secure, authority, own, tmp_path):
    mallory = Authority(tmp_path, "another CA").client("mallory")
    context = anybody()
    context.load_cert_chain(mallory.path, mallory.key_path)
    listening = Listening(secure, files(own, client_ca=authority.path))
    assert "the client's certificate is not valid, or not signed by client_ca" in (
        listening.fault(shaking(context)).detail
    )


def test_a_client_that_does_not_know_our_authority(secure, own):
    record = Listening(secure, files(own)).fault(shaking(ssl.create_default_context(cafile=None)))
    assert "the client does not trust the issuer of the listener's certificate" in record.detail
    assert record.ended_by == "client"


@pytest.mark.parametrize("end", [reset, lambda sock: None], ids=["reset", "fin"])
def test_a_client_that_leaves_behind_its_hello(ours_secure, own, end):
    def act(sock):
        sock.sendall(hello())
        sock.recv(1)
        end(sock)

    record = Listening(ours_secure, files(own)).fault(act)
    assert record.detail == "the client closed the connection during the TLS handshake"
    assert record.ended_by == "client"


@pytest.mark.parametrize("end", [reset, lambda sock: None], ids=["reset", "fin"])
def test_a_probe_that_sends_nothing_leaves_no_record(secure, own, end):
    listening = Listening(secure, files(own))
    for _ in range(3):
        listening.do(end)
    secure.settle()
    assert not listening.seen.records


def test_a_handshake_that_is_late_has_one_record(secure, own):
    listening = Listening(secure, files(own), tls_handshake_timeout=0.5)
    with socket.create_connection(listening.place, timeout=20) as sock:
        sock.sendall(hello()[:40])  # which is there before the time begins
        secure.until(lambda: listening.seen.records)
    secure.settle()
    (record,) = listening.seen.records
    assert (record.error, record.timeout) == ("MalformedRequest", "tls_handshake_timeout")


def test_a_scanner_does_not_flood_the_log(ours_secure, own):
    told = []
    log = SessionLog(lambda: 0.0)
    listening = Listening(ours_secure, files(own), log)

    def note(event):
        if "line" in event:
            told.append(event)

    globalLogPublisher.addObserver(note)
    try:
        for _ in range(20):
            listening.do(says(b"GET / HTTP/1.0\r\n\r\n"))
        ours_secure.until(lambda: len(listening.seen.records) == 20)
    finally:
        globalLogPublisher.removeObserver(note)
    assert len(told) == MAX_REFUSAL_LINES and log._suppressed == 20 - MAX_REFUSAL_LINES
    assert "TLSHandshakeFailed: TLS handshake failed: http request" in told[0]["line"]


def test_http_1_0_by_alpn(secure, own):
    """A request as ``curl -0`` sends it is served as any other request."""
    context = anybody()
    context.set_alpn_protocols(["http/1.0"])
    listening = Listening(secure, files(own))

    def act(sock):
        with context.wrap_socket(sock, server_hostname="localhost") as tls:
            tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return tls.selected_alpn_protocol(), tls.recv(12)

    assert listening.do(act) == ("http/1.0", b"HTTP/1.1 426")
    context.set_alpn_protocols(["http/1.0", "http/1.1"])
    assert listening.do(act) == ("http/1.1", b"HTTP/1.1 426")
