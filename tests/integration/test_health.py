"""A load balancer's health check against real processes, running and draining."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.support import config
from tests.support.crowd import Crew, EchoUpstream, echoes, let_go, opened
from tests.support.programs import Proxy, accepts, until


def text(upstream: EchoUpstream, workers: int, log: Path) -> str:
    """Return a listener with a health check, and one without."""
    return config.ini(
        config.listener("public", health="/readyz"),
        config.listener("inner"),
        config.upstream(upstream.port),
        workers=workers,
        drain_timeout="20s",
        access_log=log,
    )


def asked(port: int, request: bytes) -> bytes:
    """Return the complete answer to a request on a new connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(request)
        answer = b""
        while octets := sock.recv(65536):
            answer += octets
    return answer


@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])
def test_a_drain_answers_503_where_there_is_a_health_check(workers: int, tmp_path) -> None:
    """The other listeners refuse connections; new consoles are refused with the reason."""
    probe = b"GET /readyz HTTP/1.0\r\n\r\n"
    log = tmp_path / "access.log"
    with EchoUpstream() as upstream:
        process = Proxy if workers == 1 else Crew
        with process(text(upstream, workers, log)) as crew:
            public, inner = crew.ports["public"], crew.ports["inner"]
            assert asked(public, probe).startswith(b"HTTP/1.1 200 OK\r\n")
            clients = opened(public, 4)
            os.kill(crew.pid, signal.SIGTERM)
            until(lambda: not accepts(inner), "the port without a health check is closed")
            for _ in range(8):
                assert asked(public, probe).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            refused = asked(
                public,
                b"GET /ticket/abc HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )
            assert refused.startswith(b"HTTP/1.1 503 ") and b"shutting down" in refused
            assert all(echoes(client) for client in clients)
            let_go(clients)
            assert crew._process is not None and crew._process.wait(15) == 0
            assert not accepts(public)
        assert "readyz" not in log.read_text() + crew.log()


@pytest.mark.parametrize("draining", [False, True], ids=["serving", "draining"])
def test_workers_without_a_master_free_the_port_of_the_health_check(draining: bool, tmp_path) -> None:
    """A new master can bind it at once, while the workers drain."""
    with (
        EchoUpstream() as upstream,
        Crew(text(upstream, 2, tmp_path / "access.log")) as crew,
    ):
        public, inner = crew.ports["public"], crew.ports["inner"]
        clients = opened(public, 4)
        if draining:
            os.kill(crew.pid, signal.SIGTERM)
            until(lambda: not accepts(inner), "the drain has begun")
            assert accepts(public)
        os.kill(crew.pid, signal.SIGKILL)
        until(lambda: not accepts(public), "no worker listens any more", 5)
        assert all(echoes(client) for client in clients)
        with socket.create_server(("127.0.0.1", public)):
            pass
        let_go(clients)
