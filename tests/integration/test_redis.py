"""Two proxies, one of them with several workers, that share one Redis server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import config
from tests.support.certificates import Authority
from tests.support.crowd import Crew, EchoUpstream
from tests.support.programs import Proxy, free_ports, until
from tests.support.redis_server import RedisServer
from tests.support.websocket_peers import Client

CAP = 6


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[RedisServer, int, Path]]:
    """A server with a password and TLS, the port of its TLS, and the file of its authority."""
    authority = Authority(tmp_path)
    own = authority.server(addresses=["127.0.0.1"])
    (port,) = free_ports(1)
    tls = "--tls-cert-file", str(own.path), "--tls-key-file", str(own.key_path), "--tls-auth-clients", "no"
    server = RedisServer(tmp_path, "--requirepass", "pa55word", "--tls-port", str(port), *tls)
    yield server, port, authority.path
    server.stop()


def asked(port: int) -> Client | None:
    """Ask for a console, and return its client, or None when the answer is 503."""
    client = Client(port)
    status = client.ask().status
    if status == 101:
        return client
    client.drop()
    assert status == 503, status
    return None


def opened(port: int, seconds: float = 15.0) -> Client:
    """Ask for a console until there is one, since a new Redis admits nothing for 2 s."""
    return until(lambda: asked(port), "a console", seconds)


def test_two_proxies_keep_one_cap_and_a_dead_one_returns_its_slots(
    redis: tuple[RedisServer, int, Path], tmp_path: Path
) -> None:
    _server, port, authority = redis
    password = tmp_path / "password"
    password.write_text("pa55word\n")
    with EchoUpstream() as host:
        text = config.ini(
            config.listener(),
            config.upstream(f"ws://127.0.0.1:{host.port}"),
            state=f"rediss://127.0.0.1:{port}",
            state_password_file=password,
            state_ca=authority,
            max_connections=CAP,
        )
        with Proxy(text) as one, Crew(text.replace("[proxy]\n", "[proxy]\nworkers = 2\n")) as other:
            consoles = [opened(each.ports["one"]) for each in (one, other, one, other, one, other)]
            for each in (one, other):
                assert asked(each.ports["one"]) is None
            for client in consoles:
                client.drop()
            until(lambda: host.open == 0, "the end of all consoles")
            held = [opened(one.ports["one"]) for _ in range(CAP)]
            os.kill(one.pid, signal.SIGKILL)
            for client in held:
                client.drop()
            for _ in range(CAP):
                consoles.append(opened(other.ports["one"], 40.0))
            assert asked(other.ports["one"]) is None
            other.assert_clean()
            assert "pa55word" not in one.log() + other.log()
