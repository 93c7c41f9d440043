"""An upstream with several addresses: every console opens though some of them are dead."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

import pytest

from tests.support import config
from tests.support.certificates import Authority, self_signed
from tests.support.programs import Proxy, black_hole, dead_port, until
from tests.support.scripts import echo
from tests.support.websocket import BINARY
from tests.support.websocket_peers import Client, Connection, ScriptedUpstream


def opens(proxy: Proxy) -> float:
    """Open a console, echo a frame over it, and return the seconds until its 101."""
    begun = time.monotonic()
    with Client(proxy.ports["one"]) as client:
        head = client.ask("/ticket/abc", ["binary"])
        seconds = time.monotonic() - begun
        assert head.status == 101, head
        client.send_frame(BINARY, b"hello")
        assert client.recv_frame().payload == b"hello"
    return seconds


def busy(connection: Connection) -> None:
    """Run an upstream that refuses every handshake."""
    connection.recv_until(b"\r\n\r\n")
    connection.send_raw(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    connection.close()


def test_every_console_opens_though_two_of_three_addresses_are_dead() -> None:
    """One address refuses and one does not answer. Consoles open within 3 s, and at once after the checks."""
    with ScriptedUpstream(echo()) as alive, dead_port() as refused, black_hole() as hole:
        url = f"ws://127.0.0.1:{hole}, ws://127.0.0.1:{refused}, ws://127.0.0.1:{alive.port}"
        unchecked = config.upstream(url, health_check="off")
        with Proxy(config.ini(config.listener(), unchecked)) as proxy:
            for _ in range(4):
                assert opens(proxy) < 3
        with Proxy(config.ini(config.listener(), config.upstream(url))) as proxy:
            until(lambda: proxy.log().count("fails its health check") >= 2 or None, "the checks know it")
            for _ in range(4):
                assert opens(proxy) < 0.9


def test_a_host_with_a_wrong_pin_is_left_before_it_learns_the_ticket(tmp_path, authority: Authority) -> None:
    """The next address with the right certificate gets the request, and the wrong one no byte of it."""
    right, wrong = authority.server("right"), self_signed(tmp_path)
    seen: list[bytes] = []

    def listens(connection: Connection) -> None:
        seen.append(connection.recv_rest())

    with (
        ScriptedUpstream(listens, wrong.server_context()) as bad,
        ScriptedUpstream(echo(), right.server_context()) as good,
    ):
        url = f"wss://127.0.0.1:{bad.port}, wss://127.0.0.1:{good.port}"
        keys = config.upstream(url, verify="pin", health_check="off", more=f"pin = sha256:{right.sha256}")
        with Proxy(config.ini(config.listener(), keys)) as proxy:
            for _ in range(3):
                assert opens(proxy) < 3
            assert "/ticket/abc" not in proxy.log()
    assert not any(b"ticket" in octets for octets in seen)


def test_an_address_that_answers_503_is_left_after_its_third_failure() -> None:
    """The 503 is passed on, since the request was sent; a fourth console opens elsewhere."""
    with ScriptedUpstream(busy) as full, ScriptedUpstream(echo()) as free:
        url = f"ws://127.0.0.1:{full.port}, ws://127.0.0.1:{free.port}"
        with Proxy(config.ini(config.listener(), config.upstream(url))) as proxy:
            for _ in range(3):
                with Client(proxy.ports["one"]) as client:
                    assert client.ask("/ticket/abc", ["binary"]).status == 503
            assert opens(proxy) < 3
            assert "has failed 3 times in a row" in proxy.log()


def test_a_host_that_comes_back_is_used_again() -> None:
    """The check of its address passes again."""
    with ScriptedUpstream(echo()) as second:
        first = ScriptedUpstream(echo())
        with first:
            port = first.port
        url = f"ws://127.0.0.1:{port}, ws://127.0.0.1:{second.port}"
        with Proxy(config.ini(config.listener(), config.upstream(url))) as proxy:
            until(lambda: "fails its health check" in proxy.log() or None, "the check knows it")
            opens(proxy)
            with socket.create_server(("127.0.0.1", port)) as back:
                until(lambda: "passes its health check" in proxy.log() or None, "it is back", 40)
                back.settimeout(10)
                with Client(proxy.ports["one"]) as client:
                    client.send_raw(b"GET /ticket/abc HTTP/1.1\r\nHost: a\r\n" + HANDSHAKE)
                    until(lambda: _reads_ticket(back) or None, "the request goes to the first address")


HANDSHAKE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def _reads_ticket(listening: socket.socket) -> bool:
    """Accept a connection, and return whether a console is asked for on it; checks send nothing."""
    accepted, _ = listening.accept()
    with accepted:
        accepted.settimeout(5)
        with suppress(ConnectionResetError):
            return b"/ticket/abc" in accepted.recv(4096)
    return False


def test_two_names_of_one_host_share_one_cap() -> None:
    """127.0.0.1 and localhost are one address."""
    with ScriptedUpstream(echo()) as host:
        text = config.ini(
            config.listener("one", "a"),
            config.listener("two", "b"),
            config.upstream(f"ws://127.0.0.1:{host.port}", "a", max_connections=1),
            config.upstream(f"ws://localhost:{host.port}", "b", max_connections=1),
        )
        with Proxy(text) as proxy, Client(proxy.ports["one"]) as first, Client(proxy.ports["two"]) as second:
            assert first.ask("/ticket/abc", ["binary"]).status == 101
            assert second.ask("/ticket/abc", ["binary"]).status == 503
            assert "max_connections: all 1 are in use" in until(
                lambda: proxy.log() if "LimitReached" in proxy.log() else None, "the refusal's record"
            )


pytestmark = pytest.mark.timeout(120)
