"""TCP keepalive options reach the socket of every kind of transport."""

import contextlib
import socket

import pytest
from OpenSSL import SSL
from twisted.internet.protocol import Protocol
from twisted.protocols.tls import TLSMemoryBIOProtocol

from esxiproxy.net.sockets.tcp_keepalive import keep_alive, socket_of
from tests.net.memory import Wire

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux")


@contextlib.contextmanager
def loopback():
    with socket.create_server(("127.0.0.1", 0)) as port:
        near = socket.create_connection(port.getsockname())
        far, _address = port.accept()
        with near, far:
            yield near


def options(sock):
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    found = [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)), *found


class Plain:
    """A plain transport, of Twisted or of this package."""

    def __init__(self, handle):
        self._handle = handle

    def getHandle(self):
        return self._handle


def tls_on_the_socket(sock):
    """Return a TLS transport of this package, whose handle is pyOpenSSL's connection on the socket."""
    return Plain(SSL.Connection(SSL.Context(SSL.TLS_METHOD), sock))


def tls_in_memory(sock):
    """Return a TLS transport of Twisted: a connection without a socket, and a wrapped transport with one."""
    transport = TLSMemoryBIOProtocol.__new__(TLSMemoryBIOProtocol)
    transport._tlsConnection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    transport.transport = Plain(sock)
    return transport


@pytest.mark.parametrize("wrap", [lambda sock: sock, Plain, tls_on_the_socket, tls_in_memory])
def test_a_dead_peer_is_found_within_a_minute(wrap):
    with loopback() as sock:
        keep_alive(wrap(sock), 60.0)
        on, idle, interval, count, unacknowledged = options(sock)
        assert on and idle + interval * count <= 60
        assert unacknowledged == 0, "it would end a living peer whose window is closed, and replace the count"


def test_off_is_off():
    with loopback() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        keep_alive(sock, None)
        assert options(sock)[0] is False


def test_a_unix_socket_is_left_alone():
    near, far = socket.socketpair()
    with near, far:
        keep_alive(Plain(near), 60.0)
        assert not near.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_closed_socket_and_a_transport_without_one_are_left_alone():
    with loopback() as sock:
        pass
    wire = Wire(Protocol())
    for transport in (sock, Plain(sock), Plain(None), object(), None, wire.transport, tls_in_memory(None)):
        keep_alive(transport, 60.0)
    assert socket_of(wire.transport) is None


def test_an_option_that_the_platform_does_not_know_is_left_out(monkeypatch):
    monkeypatch.delattr(socket, "TCP_KEEPCNT")
    with loopback() as sock:
        keep_alive(sock, 60.0)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 25
