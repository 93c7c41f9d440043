"""A peer whose link is cut without a packet is detected in the documented time, and a live one is kept.

Each peer has a network namespace, and a router between them can lose every packet of one of them. The proxy
then gets no FIN, RST or ICMP, and its own link stays up.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.live_ends import (
    CLIENT,
    KEY,
    PIECE,
    Living,
    fills,
    sends,
    serve,
    streams,
    tells,
    tells_half,
)
from tests.support import config
from tests.support.certificates import Certificate
from tests.support.network import Network, network
from tests.support.programs import TICKET, Proxy, until
from tests.support.scripts import opened
from tests.support.websocket import BINARY, frame, handshake_fields, head_bytes
from tests.support.websocket_peers import Client, Connection, ScriptedUpstream

PINGED = 1 + 1
"""Seconds until a ping finds out: ping_interval + ping_timeout."""
PROBED = 4
"""Seconds until TCP finds out: tcp_keepalive."""
STALLED = 3
"""Seconds until a leg that takes nothing is given up where nothing else finds out: stall_timeout."""
CLOSED = 1
"""Seconds for the other leg: close_timeout."""
MARGIN = 3.0
"""Seconds for a machine that is busy."""
SMALL = bytes(range(256)) * 400
"""Far less than the kernel has room for at the proxy, far more than it has at a client that does not read."""
KINDS = (False, True)
"""Without TLS on both legs, and with it."""
_PINGED = {"ping_interval": "1s", "tcp_keepalive": "4s"}
_LAN = {"keepalive": "lan", "tcp_keepalive": "4s"}
PROFILES = {
    "console": _PINGED | {"ping_timeout": "1s"},
    "lan": _LAN,
    "patient": _PINGED | {"ping_timeout": "5s", "stall_timeout": "20s"},
    "patient-lan": _LAN | {"stall_timeout": "20s"},
}


class ProxyInside(Proxy):
    """esxiproxy in its network namespace."""

    def __init__(self, text: str, inside: Sequence[str]) -> None:
        super().__init__(text)
        self._inside = inside

    def command(self) -> Sequence[str | Path]:
        return [*self._inside, *super().command()]


@dataclass
class CutLinks:
    """The proxy, its hosts and its clients, each on a link of its own."""

    network: Network
    proxy: ProxyInside
    upstreams: dict[bool, ScriptedUpstream]
    clients: list[Client] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    """Set at the end of the test, so that senders stop."""
    read: int = 0
    """How much of the log belongs to tests before this one."""

    def open(
        self, profile: str, tls: bool, then: Callable[[Connection], None], room: int = 0
    ) -> tuple[Client, Connection]:
        """Return both ends of a new console; this script drives the upstream.

        The client's kernel buffers only so many bytes that are not read.
        """
        upstream = self.upstreams[tls]
        upstream.script = opened(then)
        name = f"{profile}-tls" if tls else profile
        with self.network.clients.entered():
            client = Client(self.proxy.ports[name], tls=tls, address=self.network.proxy.address)
        if room:
            client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.clients.append(client)
        number = len(upstream.connections)
        client.open(f"/ticket/{TICKET}", ["binary"])
        return client, upstream.connection(number)

    def at_hosts(self) -> int:
        """Return the number of connections that the hosts have."""
        return sum(self.network.hosts.connections(upstream.port) for upstream in self.upstreams.values())

    def at_proxy(self, profile: str = "") -> int:
        """Return the number of the proxy's client connections, of all profiles or of one."""
        names = (profile, f"{profile}-tls") if profile else self.proxy.ports
        return sum(self.network.proxy.connections(self.proxy.ports[name]) for name in names)

    def is_free(self, within: float) -> None:
        """Check that no connection is left after this time and a margin."""
        until(lambda: self.at_hosts() == self.at_proxy() == 0, f"all is over ({within:g} s)", within + MARGIN)

    def lines(self, count: int) -> list[str]:
        """Return the log lines about the sessions of this test."""

        def found() -> list[str] | None:
            lines = re.findall(r".*ended by .*", self.proxy.log()[self.read :])
            return lines if len(lines) == count else None

        return until(found, f"{count} records")

    def records(self, count: int) -> list[str]:
        """Return how the sessions of this test ended, from the log."""
        return [line.partition("ended by ")[2] for line in self.lines(count)]

    def end(self) -> None:
        """Close all connections."""
        self.over.set()
        for client in self.clients:  # who still waits on a closed descriptor would speak on the next one's
            with contextlib.suppress(OSError):
                socket.socket.shutdown(client.stream, socket.SHUT_RDWR)
        for thread in threading.enumerate():
            if thread.name == CLIENT:
                thread.join(10)
        for client in self.clients:
            client.reset()
        for upstream in self.upstreams.values():
            upstream.forget()
        until(lambda: self.at_hosts() == self.at_proxy() == 0, "everybody has left")
        self.clients.clear()
        self.over = threading.Event()
        self.read = len(self.proxy.log())


@pytest.fixture(scope="module")
def house(upstream_certificate: Certificate, listener_certificate: Certificate) -> Iterator[CutLinks]:
    with network() as made, contextlib.ExitStack() as stack:
        with made.hosts.entered():
            plain = stack.enter_context(ScriptedUpstream(address=made.hosts.address))
            secure = stack.enter_context(
                ScriptedUpstream(tls=upstream_certificate.server_context(), address=made.hosts.address)
            )
        at, listen = made.hosts.address, f"{made.proxy.address}:0"
        text = config.ini(
            config.upstream(f"ws://{at}:{plain.port}", "plain"),
            config.upstream(f"wss://{at}:{secure.port}", "secure", pin=upstream_certificate),
            *(
                config.listener(name, "plain", listen, **profile)
                + config.listener(f"{name}-tls", "secure", listen, listener_certificate, **profile)
                for name, profile in PROFILES.items()
            ),
            close_timeout="1s",
            stall_timeout="3s",
        )
        proxy = stack.enter_context(ProxyInside(text, made.proxy.command()))
        yield CutLinks(made, proxy, {False: plain, True: secure})


@pytest.fixture
def scene(house: CutLinks) -> Iterator[CutLinks]:
    yield house
    house.end()


# the client's link


def test_a_cut_off_client_is_detected(scene: CutLinks) -> None:
    """At rest, with a picture on its way down, and in the middle of a frame on its way up."""
    for profile in ("console", "lan"):
        for tls in KINDS:
            for script in (serve, streams(scene.over), serve):
                client, connection = scene.open(profile, tls, script)
                Living(client)
            client.send_raw(frame(BINARY, b"x" * 10, mask=KEY, length=1000))
            until(lambda connection=connection: b"\xfe\x03\xe8" in connection.received, "a part of the frame")
    assert scene.at_hosts() == scene.at_proxy() == 12
    with scene.network.cut(scene.network.clients):
        deadline = time.monotonic() + PROBED
        until(
            lambda: scene.at_hosts() <= 6 and scene.at_proxy("console") == 0,
            "pings",
            PINGED + CLOSED + MARGIN,
        )
        scene.is_free(deadline - time.monotonic() + CLOSED)
        lines = scene.lines(12)
    assert all("ended by client ClientLost" in line for line in lines), lines
    pinged = [line for line in lines if f"no answer to a ping within {PINGED / 2:g} s" in line]
    assert len(pinged) == 6 and all(re.search(r" session \w+ console(-tls)? ", line) for line in pinged), (
        lines
    )


def test_a_cut_off_client_with_much_data_in_flight_is_detected(scene: CutLinks) -> None:
    """Bytes wait for it: until stall_timeout it may as well be one that has stopped reading."""
    for profile in ("console", "lan"):
        for tls in KINDS:
            living = Living(scene.open(profile, tls, fills)[0])
            until(lambda living=living: living.frames > 10, "the picture comes")
    with scene.network.cut(scene.network.clients):
        scene.is_free(STALLED + CLOSED)
        assert all("ClientLost" in record or "StallTimeout" in record for record in scene.records(4))


def test_a_cut_off_client_that_read_nothing_is_detected(scene: CutLinks) -> None:
    """The window is closed, and the data fits into the kernel's buffer, so TCP probes get no answer."""
    for profile in ("patient", "patient-lan"):
        for tls in KINDS:
            _, connection = scene.open(profile, tls, tells(SMALL), room=4096)
            assert connection.request is not None
    assert not scene.over.wait(1)
    with scene.network.cut(scene.network.clients):
        scene.is_free(PROBED + PROBED / 4 + CLOSED)
        assert all("timeout=tcp_keepalive" in line for line in scene.lines(4))
        assert all("client ClientLost" in record for record in scene.records(4))


# the upstream's link


def test_a_cut_off_host_is_detected(scene: CutLinks) -> None:
    """At rest, with keys on their way up, in the middle of a frame; when it is back it learns of the end."""
    living = []
    for tls in KINDS:
        for script in (serve, serve, tells_half):
            client, _ = scene.open("console", tls, script)
            living.append(Living(client))
            if len(living) % 3 == 2:
                sends(client, scene.over, b"key", 0.02)
    with scene.network.cut(scene.network.hosts):
        deadline = time.monotonic() + PROBED + MARGIN
        for number, client in enumerate(living):
            client.join(deadline - time.monotonic())
            # No Close can follow a half of a frame.
            assert not client.is_alive() and client.code == (None if number % 3 == 2 else 1011)
        until(lambda: scene.at_proxy() == 0, "the proxy has let go", CLOSED + MARGIN)
        assert all("upstream UpstreamLost" in record for record in scene.records(6))
        assert scene.at_hosts() == 6
    scene.is_free(1)


def test_a_cut_off_host_with_much_data_in_flight_is_detected(scene: CutLinks) -> None:
    """A client that pastes gets a Close, and the host its end when it is back."""
    clients = []
    for tls in KINDS:
        client, connection = scene.open("lan", tls, serve)
        sends(client, scene.over, PIECE, 0)
        until(lambda connection=connection: len(connection.frames) > 1, "what it sends arrives")
        clients.append(client)
    with scene.network.cut(scene.network.hosts):
        until(lambda: scene.at_proxy() == 0, "the proxy has let go", STALLED + CLOSED + MARGIN)
        assert all("UpstreamLost" in record or "StallTimeout" in record for record in scene.records(2))
    scene.is_free(1)


def test_a_cut_off_host_with_little_data_in_flight_is_detected(scene: CutLinks) -> None:
    """The kernel keeps one key press for the host, and TCP gets no answer."""
    clients = [scene.open("patient-lan", tls, serve)[0] for tls in KINDS]
    with scene.network.cut(scene.network.hosts):
        for client in clients:
            Living(client)
            client.send_frame(BINARY, b"key")
        until(lambda: scene.at_proxy() == 0, "the proxy has let go", PROBED + PROBED / 4 + CLOSED + MARGIN)
        assert all("timeout=tcp_keepalive" in line for line in scene.lines(2))
        assert all("upstream UpstreamLost" in record for record in scene.records(2))
    scene.is_free(1)


# the living


def test_live_peers_are_kept(scene: CutLinks) -> None:
    """Three times as long as dead ones would be.

    Those that read nothing are kept for longer than dead ones, and for less than stall_timeout.  They get
    every byte when they read again: of much, and of what the kernel has room for.
    """
    kept = []
    for profile in ("console", "lan"):
        for tls in KINDS:
            client, connection = scene.open(profile, tls, serve)
            Living(client)
            kept.append((client, connection))
    payloads = [random.Random(6).randbytes(size) for size in (8_000_000, 300_000)]
    idle = [
        (scene.open(profile, tls, tells(payload), room=32_768)[0], payload)
        for payload in payloads
        for profile in ("patient", "patient-lan")
        for tls in KINDS
    ]
    assert not scene.over.wait(2 * PROBED)
    for client, payload in idle:
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        assert client.recv_frame(60).payload == payload
    assert scene.at_hosts() == scene.at_proxy() == len(kept) + len(idle)
    for client, _ in idle:
        client.reset()
    assert not scene.over.wait(PROBED)
    assert scene.at_hosts() == scene.at_proxy() == len(kept)
    for client, connection in kept:
        client.send_frame(BINARY, b"still here")
        until(lambda connection=connection: bool(connection.frames), "a frame arrives")
        assert connection.frames[-1].payload == b"still here"


def test_a_live_client_that_reads_nothing_stalls_and_is_not_lost() -> None:
    """TCP would have given up a dead one twice over when stall_timeout comes."""
    with ScriptedUpstream(opened(tells(bytes(40_000)))) as upstream:
        text = config.ini(
            config.listener(),
            config.upstream(upstream.port),
            keepalive="lan",
            tcp_keepalive="4s",
            stall_timeout="8s",
            close_timeout="1s",
        )
        with Proxy(text) as proxy, socket.socket() as stream:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stream.connect(("127.0.0.1", proxy.ports["one"]))
            began = time.monotonic()
            stream.sendall(head_bytes(f"GET /ticket/{TICKET} HTTP/1.1", handshake_fields(["binary"])))
            until(lambda: " ended by " in proxy.log(), "it has ended", 4 * PROBED)
            assert time.monotonic() - began > 2 * PROBED
            assert "timeout=stall_timeout ended by proxy code=1008 StallTimeout" in proxy.log()
