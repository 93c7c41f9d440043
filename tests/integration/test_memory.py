"""The memory of the process: bounded for huge messages and stopped readers, and free after sessions.

`ESXIPROXY_LONG=1` makes the message 4 GiB.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.support import config
from tests.support.bulk import KEY, MIB, PIECE, POOL, Sender, receive
from tests.support.certificates import Certificate
from tests.support.listeners import Upstreams, three_listeners
from tests.support.peer import Peer
from tests.support.programs import TICKET, Proxy, black_hole, dead_port, until
from tests.support.proxy_scene import ProxyScene
from tests.support.scripts import opened, refuse, sends, silent
from tests.support.websocket import BINARY, CLOSE, close_payload, frame, handshake_fields
from tests.support.websocket_peers import Client, Connection, ScriptedUpstream

LONG = os.environ.get("ESXIPROXY_LONG") == "1"
MESSAGE = (4096 if LONG else 256) * MIB
STOPPED = 64 * MIB
"""More than all the kernel's buffers on the way can take."""
TRANSFER_TIMEOUT = 600.0 if LONG else 60.0
TARGET = f"/ticket/{TICKET}"
KINDS = {"one": "ws to ws", "three": "wss to wss"}

both_kinds = pytest.mark.parametrize("name", KINDS, ids=KINDS.values())


@contextlib.contextmanager
def started(shown: Certificate, own: Certificate, **limits: str) -> Iterator[ProxyScene]:
    """Start the proxy with these limits in front of two upstreams."""
    with (
        ScriptedUpstream() as plain,
        ScriptedUpstream(tls=shown.server_context()) as secure,
        dead_port() as nobody,
    ):
        upstreams = Upstreams(plain.port, secure.port, shown, nobody)
        with Proxy(three_listeners(upstreams, own, **limits)) as proxy:
            yield ProxyScene(proxy, {"one": plain, "three": secure})


@pytest.fixture(scope="module")
def scene(upstream_certificate: Certificate, listener_certificate: Certificate) -> Iterator[ProxyScene]:
    with started(upstream_certificate, listener_certificate) as scene:
        yield scene


def passes(sender: Peer, reader: Peer, size: int) -> None:
    """Send one message of this size from one end to the other, and check it."""
    sending = Sender(sender, size, TRANSFER_TIMEOUT)
    checksum = receive(reader, sending.head, size, TRANSFER_TIMEOUT)
    sending.join(TRANSFER_TIMEOUT)
    assert sending.problem is None and (sending.sent, sending.checksum) == (size, checksum)


@both_kinds
def test_a_huge_message_passes_in_constant_memory(name: str, scene: ProxyScene) -> None:
    """One frame larger than all buffers passes in each direction. The process grows by less than 20 MiB."""
    with scene.console(name, timeout=TRANSFER_TIMEOUT) as (client, connection):
        passes(client, connection, MIB)
        before = scene.proxy.resident()
        scene.proxy.forget_peak()
        passes(client, connection, MESSAGE)
        passes(connection, client, MESSAGE)
        assert scene.proxy.peak() - before < 20 * MIB
        client.send_close(1000)


@both_kinds
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_reader_that_stops_stops_the_sender(direction: str, name: str, scene: ProxyScene) -> None:
    """The sender's own socket blocks, the process does not grow, and every byte comes when it reads again."""
    with scene.console(name, timeout=TRANSFER_TIMEOUT) as (client, connection):
        sender, reader = (client, connection) if direction == "up" else (connection, client)
        passes(sender, reader, 4 * MIB)
        before = scene.proxy.resident()
        scene.proxy.forget_peak()
        sending = Sender(sender, STOPPED, TRANSFER_TIMEOUT)
        until(sending.blocked(), "the sender is blocked")
        assert sending.sent < STOPPED
        assert scene.proxy.peak() - before < 4 * MIB
        checksum = receive(reader, sending.head, STOPPED, TRANSFER_TIMEOUT)
        sending.join(TRANSFER_TIMEOUT)
        assert sending.problem is None and (sending.sent, sending.checksum) == (STOPPED, checksum)
        assert scene.proxy.peak() - before < 4 * MIB
        client.send_close(1000)


# Descriptors

SESSIONS = 60
"""Of each kind: 360 together."""


def _client(scene: ProxyScene, number: int) -> tuple[str, Client]:
    """Return a new client, with and without TLS in turn."""
    name = ("one", "three")[number % 2]
    return name, scene.client(name)


def clients_reset(scene: ProxyScene) -> list[Client]:
    """Reset the clients in the middle of a frame."""
    clients = [_client(scene, number)[1] for number in range(SESSIONS)]
    for client in clients:
        client.open(TARGET, ["binary"])
        client.send_raw(frame(BINARY, b"x" * 10, mask=KEY, length=1000))
    for client in clients:
        client.reset()
    return []


def upstreams_reset(scene: ProxyScene) -> list[Client]:
    """Reset the hosts; the clients stay."""
    for upstream in scene.hosts.values():
        upstream.script = opened(lambda connection: connection.next_frame() and connection.reset())
    clients = [_client(scene, number)[1] for number in range(SESSIONS)]
    for client in clients:
        client.open(TARGET, ["binary"])
        client.send_frame(BINARY, b"go")
    return clients


def clients_leave_while_we_dial(scene: ProxyScene) -> list[Client]:
    """Leave with a FIN or an RST while the host has the request and does not answer."""
    for upstream in scene.hosts.values():
        upstream.script = silent
    for number in range(SESSIONS):
        name, client = _client(scene, number)
        client.send_request(f"GET {TARGET} HTTP/1.1", handshake_fields(["binary"]))
        scene.hosts[name].connection(number // 2)
        (client.reset if number % 4 < 2 else client.drop)()
    return []


def hosts_refuse(scene: ProxyScene) -> list[Client]:
    """Get 403 from the host, or 502 without a host; the client never closes."""
    for upstream in scene.hosts.values():
        upstream.script = refuse("403 Forbidden", b"no" * 1000)
    clients = []
    for number in range(SESSIONS):
        client = _client(scene, number)[1] if number % 3 else scene.client("dead")
        assert client.ask(TARGET, ["binary"]).status == (403 if number % 3 else 502)
        clients.append(client)
    return clients


def clients_never_read(scene: ProxyScene) -> list[Client]:
    """Close at the host in order and wait; the client reads nothing."""
    for upstream in scene.hosts.values():
        upstream.script = sends(frame(BINARY, POOL[:PIECE]), frame(CLOSE, close_payload(1000)))
    return _opened(scene)


def clients_that_never_read_block(scene: ProxyScene) -> list[Client]:
    """Fill all buffers, so that the host is not read when it leaves."""

    def script(connection: Connection) -> None:
        connection.stream.settimeout(0.5)
        with contextlib.suppress(OSError):
            connection.stream.sendall(frame(BINARY, length=STOPPED))
            while True:
                connection.stream.sendall(POOL)
        connection.reset()

    for upstream in scene.hosts.values():
        upstream.script = opened(script)
    return _opened(scene)


def _opened(scene: ProxyScene) -> list[Client]:
    clients = [_client(scene, number)[1] for number in range(SESSIONS)]
    for client in clients:
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.open(TARGET, ["binary"])
    return clients


ENDS = [
    clients_reset,
    upstreams_reset,
    clients_leave_while_we_dial,
    hosts_refuse,
    clients_never_read,
    clients_that_never_read_block,
]


@pytest.fixture(scope="module")
def hasty(upstream_certificate: Certificate, listener_certificate: Certificate) -> Iterator[ProxyScene]:
    """Run a proxy whose timeouts are a second at most, after its first sessions have ended."""
    with started(upstream_certificate, listener_certificate, stall_timeout="1s") as scene:
        for name in KINDS:
            with scene.console(name, timeout=TRANSFER_TIMEOUT):
                pass
        scene.measure()
        yield scene


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_no_descriptor_outlives_its_session(
    end: Callable[[ProxyScene], list[Client]], hasty: ProxyScene
) -> None:
    """Sixty sessions end abruptly in each of six ways, and the process has as many descriptors as before.

    The remaining clients keep their ends open, so the proxy closes its own.
    """
    clients = end(hasty)
    try:
        until(lambda: hasty.proxy.descriptors() == hasty.idle, f"{hasty.idle} descriptors again")
    finally:
        for client in clients:
            client.reset()
        for upstream in hasty.hosts.values():
            upstream.forget()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nothing_is_left_of_an_unanswered_dial(host: str) -> None:
    """A client that stays gets 504; one that leaves cancels the dial, and neither is a bug for the log."""
    with black_hole() as hole:
        text = config.ini(
            config.listener(),
            config.upstream(f"ws://{host}:{hole}"),
            connect_timeout="9s",
            upstream_handshake_timeout="1s",
            close_timeout="1s",
        )
        with Proxy(text) as proxy:
            scene = ProxyScene(proxy)
            with scene.client("one") as client:
                assert client.ask(TARGET).status == 504
            scene.measure()
            clients = [scene.client("one") for _ in range(20)]
            for client in clients:
                client.send_request(f"GET {TARGET} HTTP/1.1", handshake_fields())
            until(
                lambda: scene.proxy.descriptors() >= scene.idle + 2 * len(clients),
                "all of them are dialled for",
            )
            for client in clients:
                client.drop()
            until(lambda: scene.proxy.descriptors() == scene.idle, "no dial is left", 0.5)
            until(lambda: proxy.log().count("status=499") == len(clients), "their records")
            proxy.assert_clean()
            assert "UpstreamTimeout" in proxy.log()
