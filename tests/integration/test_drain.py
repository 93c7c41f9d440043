"""SIGTERM and clients that have their answer: the process waits for bytes to arrive, for nothing else."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from tests.support import config
from tests.support.certificates import Certificate
from tests.support.processes import runs
from tests.support.programs import Proxy, accepts, until
from tests.support.scripts import answer
from tests.support.websocket_peers import Client, Connection, ScriptedUpstream

SOON = 15.0
"""Seconds that a busy machine may take for what is done at once: all timeouts below are longer."""
SIZE = 20_000_000
"""More than all the buffers on the way take."""
FIELDS = [("Host", "console.test"), ("Connection", "close")]

each_listener = pytest.mark.parametrize("listener", ["plain", "tls"])


def large(connection: Connection) -> None:
    """Send more than the client reads."""
    connection.read_request()
    connection.send_raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
    connection.stream.sendall(bytes(SIZE))


@pytest.fixture
def host() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(script=answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as host:
        yield host


@pytest.fixture
def proxy(transports: str, host: ScriptedUpstream, listener_certificate: Certificate) -> Iterator[Proxy]:
    with Proxy(
        config.ini(
            config.listener("plain", "host", http="forward"),
            config.listener("tls", "host", tls=listener_certificate, http="forward"),
            config.upstream(host.port, "host"),
            **dict.fromkeys(("drain_timeout", "close_timeout", "stall_timeout"), "60s"),
        )
    ) as proxy:
        yield proxy


@pytest.fixture
def clients(proxy: Proxy) -> Iterator[list[Client]]:
    """Open a client of each listener."""
    with (
        Client(proxy.ports["plain"], timeout=60) as plain,
        Client(proxy.ports["tls"], tls=True, timeout=60) as secure,
    ):
        yield [plain, secure]


def closed(proxy: Proxy) -> bool:
    return not any(accepts(port) for port in proxy.ports.values())


def test_clients_that_have_their_answers_and_do_not_close_hold_up_nothing(
    proxy: Proxy, clients: list[Client]
) -> None:
    for client in clients:
        client.send_request("GET / HTTP/1.1", FIELDS)
        assert client.recv_body(client.recv_head()) == b"ok"
    os.kill(proxy.pid, signal.SIGTERM)
    until(lambda: not runs(proxy.pid), "the process ends", SOON)
    assert proxy.stop() == 0
    proxy.assert_clean()


def test_clients_that_read_on_get_all_of_their_answers(
    proxy: Proxy, clients: list[Client], host: ScriptedUpstream
) -> None:
    host.script = large
    for client in clients:
        client.send_request("GET / HTTP/1.1", FIELDS)
    heads = [client.recv_head() for client in clients]
    os.kill(proxy.pid, signal.SIGTERM)
    until(lambda: closed(proxy), "the ports are closed", SOON)
    for client, head in zip(clients, heads, strict=True):
        assert len(client.recv_body(head)) == SIZE
    until(lambda: not runs(proxy.pid), "the process ends", SOON)
    assert proxy.stop() == 0
    proxy.assert_clean()


@each_listener
def test_a_second_sigterm_aborts(listener: str, proxy: Proxy, host: ScriptedUpstream) -> None:
    """One client does not read the rest of its answer, and another one stops reading while it is sent."""
    sent = 3_000_000

    def answers(connection: Connection) -> None:
        connection.read_request()
        connection.send_raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % sent)
        connection.stream.sendall(bytes(sent))

    host.script = answers
    port = proxy.ports[listener]
    with Client(port, tls=listener == "tls") as first:
        first.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        first.send_request("GET / HTTP/1.1", FIELDS)
        until(lambda: f"down={sent}" in proxy.log() or host.connection().finished.is_set(), "it is sent")
        host.script = large
        with Client(port, tls=listener == "tls") as second:
            second.send_request("GET / HTTP/1.1", FIELDS)
            second.recv_head()
            os.kill(proxy.pid, signal.SIGTERM)
            until(lambda: not accepts(port), "the port is closed", SOON)
            assert runs(proxy.pid)
            os.kill(proxy.pid, signal.SIGTERM)
            until(lambda: not runs(proxy.pid), "the process ends", SOON)
            for client in (first, second):
                client.drop()
    assert proxy.stop() == 0
    proxy.assert_clean()
