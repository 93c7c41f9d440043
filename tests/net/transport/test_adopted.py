"""Tests of ports on a socket that another process has bound and that is shared."""

from __future__ import annotations

import os
import socket

import pytest
from twisted.internet import endpoints
from twisted.python.systemd import ListenFDs

from esxiproxy.net.listener.service import ListenerService
from tests.net.transport.conftest import _fixture
from tests.net.transport.loop import One, Peer

plain = _fixture("ours-plain")


@pytest.fixture(params=["tcp", "unix"])
def shared(request, tmp_path):
    if request.param == "tcp":
        listening = socket.create_server(("127.0.0.1", 0))
    else:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / "console.sock"))
        (tmp_path / "console.sock").chmod(0o660)
        listening.listen()
    with listening:
        yield listening


def dial(shared):
    client = socket.socket(shared.family)
    client.settimeout(20)
    client.connect(shared.getsockname())
    return client


def test_an_adopted_port_serves_clients(plain, shared):
    server = Peer()
    service = ListenerService("one", "ignored", One(server), plain.reactor, shared)
    service.startService()
    with dial(shared) as client:
        client.sendall(b"hello")
        plain.until(lambda: bytes(server.got) == b"hello")
        server.transport.abortConnection()
        service.stopService()
        plain.settle()


def test_its_end_leaves_the_socket_to_the_others(plain, shared):
    service = ListenerService("one", "ignored", One(), plain.reactor, shared)
    service.startService()
    service.stopService()
    plain.settle()
    assert service.port is None
    shared.settimeout(20)
    with dial(shared), shared.accept()[0]:
        pass


@pytest.mark.parametrize("shared", ["unix"], indirect=True)
def test_the_name_of_a_unix_socket_is_left_alone(plain, shared, tmp_path):
    path = tmp_path / "console.sock"
    service = ListenerService("one", "ignored", One(), plain.reactor, shared)
    service.startService()
    assert path.stat().st_mode & 0o777 == 0o660
    assert service.address() == f"unix:{path}"
    service.stopService()
    plain.settle()
    assert path.exists()


def test_another_factory_serves_the_next_connection(plain):
    first, second = Peer(), Peer()
    service = ListenerService("one", "tcp:0:interface=127.0.0.1", One(first), plain.reactor)
    service.startService()
    clients = Peer(), Peer()
    plain.dial(service.port, clients[0])
    plain.until(lambda: first.made)
    service.serve(One(second))
    plain.dial(service.port, clients[1])
    plain.until(lambda: second.made)
    clients[0].transport.write(b"old")
    plain.until(lambda: bytes(first.got) == b"old")
    service.stopService()
    plain.settle()


def test_a_socket_of_systemd_may_be_wanted_again(plain, monkeypatch):
    """An endpoint description has only the descriptor's number, which a close would release to others."""
    bound = socket.create_server(("127.0.0.1", 0))
    sockets = ListenFDs([bound.detach()], ["console"])
    monkeypatch.setattr(endpoints._SystemdParser, "_sddaemon", sockets)
    for _ in range(2):
        server, client = Peer(), Peer()
        service = ListenerService("one", "systemd:domain=INET:name=console", One(server), plain.reactor)
        service.startService()
        plain.dial(service.port, client)
        plain.until(lambda server=server: server.made)
        client.transport.abortConnection()
        service.stopService()
        plain.settle()
    os.close(sockets.inheritedNamedDescriptors()["console"])


@pytest.mark.parametrize("is_set", [False, True])
def test_a_connection_that_waited_before_its_socket_was_adopted_gets_no_delay(plain, is_set):
    """Linux copies the option to a connection at the handshake, before the connection is accepted."""
    with socket.create_server(("127.0.0.1", 0)) as shared:
        shared.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, is_set)
        with dial(shared):
            server = Peer()
            service = ListenerService("one", "ignored", One(server), plain.reactor, shared)
            service.startService()
            plain.until(lambda: server.made)
            assert service.port.no_delay is is_set
            assert server.transport.getTcpNoDelay() is is_set
            server.transport.setTcpNoDelay(True)
            assert server.transport.getTcpNoDelay()
            server.transport.abortConnection()
            service.stopService()
            plain.settle()


def test_a_socket_of_our_own_has_no_delay_before_it_listens(plain, monkeypatch):
    seen, listen = [], socket.socket.listen

    def listen_with(sock, *backlog):
        seen.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return listen(sock, *backlog)

    monkeypatch.setattr(socket.socket, "listen", listen_with)
    port = plain.listen(Peer())
    assert port.no_delay and seen and all(seen)
