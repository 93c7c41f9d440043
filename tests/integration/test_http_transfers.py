"""Large transfers pass, the process does not grow, and a client that does not read stops the sender.

`ESXIPROXY_LONG=1` makes them 4 GiB.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.certificates import Certificate
from tests.support.listeners import Listeners, forwarding
from tests.support.programs import ROOT, Nginx, Program, free_ports, until
from tests.support.websocket import Head, head_bytes
from tests.support.websocket_peers import Client

MIB = 1 << 20
SIZE = (4096 if os.environ.get("ESXIPROXY_LONG") == "1" else 256) * MIB
BOUND = 20 * MIB
STOPPED = 128 * MIB
"""More than all the kernel's buffers on the way can take."""
PIECE = bytes(256 * 1024)
TRANSFER_TIMEOUT = 600.0

# nginx serves a file that is one hole, and passes uploads on to the other server as they come.
NGINX = """
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{secure} ssl;
        ssl_certificate {certificate}; ssl_certificate_key {key};
        root {folder};
        sendfile on; client_max_body_size 0;
        location /twisted/ {{
            proxy_pass http://127.0.0.1:{behind}/;
            proxy_http_version 1.1;
            proxy_buffering off; proxy_request_buffering off;
        }}
    }}
"""


class Server(Program):
    """The small Twisted server of `transferring.py`."""

    name = "transferring"
    ours = False

    def __init__(self, certificate: Certificate) -> None:
        super().__init__()
        self._certificate = certificate
        self.ports: dict[str, int] = {}

    def command(self) -> Sequence[str | Path]:
        script = ROOT / "tests" / "support" / "transferring.py"
        return [sys.executable, script, self._certificate.path, self._certificate.key_path]

    def is_ready(self) -> bool:
        self.ports = {
            name: int(port) for name, port in re.findall(r"^(\w+) (\d+)$", self.log(), re.MULTILINE)
        }
        return len(self.ports) == 2

    def say(self, target: str) -> str:
        """Return the server's answer to a request that does not pass the proxy."""
        with Client(self.ports["plain"]) as client:
            client.send_request(f"GET {target} HTTP/1.1", [("Host", "h.test")])
            return client.recv_body(client.recv_head()).decode()


@dataclass
class Transfers:
    """The proxy in front of one of the servers."""

    listeners: Listeners
    server: Server
    paths: dict[str, str]
    """Where the downloads and uploads are, by their framing."""

    @contextlib.contextmanager
    def stays(self) -> Iterator[None]:
        """Check that the peak memory of the process grows by less than 20 MiB."""
        process = self.listeners.program
        process.forget_peak()
        before = process.resident()
        yield
        assert process.peak() - before < BOUND
        assert process.resident() - before < BOUND

    def client(self, name: str) -> Client:
        """Return a client of this listener with a long timeout."""
        return self.listeners.client(name, timeout=TRANSFER_TIMEOUT)

    def download(self, name: str, framing: str, size: int) -> None:
        """Download through the proxy, and check that every byte is zero and none is missing."""
        with self.client(name) as client:
            client.send_request(f"GET {self.paths[framing].format(size)} HTTP/1.1", [("Host", "h.test")])
            head = client.recv_head()
            assert head.status == 200
            assert (head.one("Content-Length") is None) == (framing == "chunked")
            assert drain(client, head, size) == size

    def upload(self, name: str, framing: str, size: int) -> None:
        """Upload through the proxy, and check the number of bytes that the server has received."""
        with self.client(name) as client:
            begin(client, self.paths["sink"], framing, size)
            sent = send(client, framing, size)
            head = client.recv_head()
            assert head.status == 200
            assert client.recv_body(head).decode() == f"{size} {sent}"


def begin(client: Client, target: str, framing: str, size: int) -> None:
    """Send the head of an upload."""
    how = ("Transfer-Encoding", "chunked") if framing == "chunked" else ("Content-Length", str(size))
    client.send_raw(head_bytes(f"PUT {target} HTTP/1.1", [("Host", "h.test"), how]))


def send(client: Client, framing: str, size: int, sent: Callable[[int], None] = lambda _: None) -> int:
    """Send the body of an upload in equal pieces, and return its checksum."""
    checksum, left = 0, size
    client.stream.settimeout(TRANSFER_TIMEOUT)
    chunk = b"%x\r\n" % len(PIECE) + PIECE + b"\r\n"
    assert size % len(PIECE) == 0
    while left:
        client.stream.sendall(chunk if framing == "chunked" else PIECE)
        checksum = zlib.crc32(PIECE, checksum)
        left -= len(PIECE)
        sent(size - left)
    if framing == "chunked":
        client.stream.sendall(b"0\r\n\r\n")
    return checksum


def drain(client: Client, head: Head, size: int) -> int:
    """Read a body of zeros without storing it, and return the number of its bytes."""
    client.stream.settimeout(TRANSFER_TIMEOUT)
    buffer = bytearray(1 << 20)
    pending = bytes(client._pending)
    if head.one("Content-Length"):
        count = len(pending)
        assert not pending.strip(b"\0")
        while count < size:
            got = client.stream.recv_into(buffer, min(len(buffer), size - count))
            assert got and not buffer[:got].strip(b"\0")
            count += got
        return count
    return _drain_chunks(client, buffer, pending)


def _drain_chunks(client: Client, buffer: bytearray, pending: bytes) -> int:
    """Read a chunked body of zeros, and return the number of its bytes."""
    count = 0
    while True:
        while b"\r\n" not in pending:
            pending += client.stream.recv(65536)
        line, _, pending = pending.partition(b"\r\n")
        chunk = int(line, 16)
        wanted = chunk + 2
        if len(pending) < wanted:
            left = wanted - len(pending)
            assert not pending.strip(b"\0\r")
            tail = pending[-2:]
            while left:
                got = client.stream.recv_into(buffer, min(len(buffer), left))
                assert got and not buffer[:got].strip(b"\0\r\n")
                left -= got
                tail = (tail + buffer[:got])[-2:]
            assert tail == b"\r\n"
            pending = b""
        else:
            assert pending[chunk:wanted] == b"\r\n" and not pending[:chunk].strip(b"\0")
            pending = pending[wanted:]
        count += chunk
        if not chunk:
            assert not pending
            return count


@pytest.fixture(scope="module")
def server(upstream_certificate: Certificate) -> Iterator[Server]:
    with Server(upstream_certificate) as running:
        yield running


@pytest.fixture(scope="module")
def twisted(
    server: Server, upstream_certificate: Certificate, listener_certificate: Certificate
) -> Iterator[Transfers]:
    """Run the proxy in front of the Twisted server."""
    ports = server.ports["plain"], server.ports["secure"]
    paths = {"length": "/length/{}", "chunked": "/chunked/{}", "sink": "/sink"}
    with forwarding(*ports, upstream_certificate, listener_certificate) as listeners:
        yield Transfers(listeners, server, paths)


@pytest.fixture(scope="module")
def nginx(
    server: Server,
    tmp_path_factory: pytest.TempPathFactory,
    upstream_certificate: Certificate,
    listener_certificate: Certificate,
) -> Iterator[Transfers]:
    """Run the proxy in front of nginx."""
    folder = tmp_path_factory.mktemp("files")
    with (folder / "hole").open("wb") as hole:
        hole.truncate(SIZE)
    plain, secure = free_ports(2)
    shown = upstream_certificate
    values = {"certificate": shown.path, "key": shown.key_path, "folder": folder}
    text = NGINX.format(plain=plain, secure=secure, behind=server.ports["plain"], **values)
    paths = {"length": "/hole", "chunked": "/twisted/chunked/{}", "sink": "/twisted/sink"}
    with Nginx(text), forwarding(plain, secure, shown, listener_certificate) as listeners:
        yield Transfers(listeners, server, paths)


@pytest.fixture(params=["nginx", "twisted"])
def scene(request: pytest.FixtureRequest) -> Transfers:
    found: Transfers = request.getfixturevalue(request.param)
    return found


WAYS = [("one", "length"), ("one", "chunked"), ("three", "length")]

each_way = pytest.mark.parametrize(("name", "framing"), WAYS, ids=[" ".join(way) for way in WAYS])


@each_way
def test_a_large_download_leaves_the_memory_as_it_was(name: str, framing: str, scene: Transfers) -> None:
    """Every byte arrives, and the process grows by less than 20 MiB, with each framing."""
    with scene.stays():
        scene.download(name, framing, SIZE)


@each_way
def test_a_large_upload_leaves_the_memory_as_it_was(name: str, framing: str, scene: Transfers) -> None:
    """Every byte arrives, and the process grows by less than 20 MiB, with each framing."""
    with scene.stays():
        scene.upload(name, framing, SIZE)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_reader_that_stops_stops_the_server(framing: str, twisted: Transfers) -> None:
    """The server is asked for no more, and every byte comes when the client reads again."""
    server = twisted.server
    with twisted.stays(), twisted.client("one") as client:
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        server.say("/sent")
        client.send_request(f"GET {twisted.paths[framing].format(STOPPED)} HTTP/1.1", [("Host", "h.test")])
        head = client.recv_head()
        total = 0

        def stopped() -> bool:
            nonlocal total
            more = int(server.say("/sent"))
            total += more
            return total > 0 and more == 0 and int(server.say("/sent")) == 0

        until(stopped, "the server sends no more")
        assert total < STOPPED
        assert drain(client, head, STOPPED) == STOPPED


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_server_that_stops_stops_the_client(framing: str, twisted: Transfers) -> None:
    """The client's own socket blocks, and every byte arrives when the server reads again."""
    with twisted.stays(), twisted.client("one") as client:
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        begin(client, "/stuck", framing, STOPPED)
        done, progress, checksums = threading.Event(), [0], [0]

        def run() -> None:
            checksums[0] = send(client, framing, STOPPED, lambda count: progress.__setitem__(0, count))
            done.set()

        threading.Thread(target=run, daemon=True).start()
        seen = [-1]

        def blocked() -> bool:
            before, seen[0] = seen[0], progress[0]
            return before == seen[0] > 0 and not done.wait(0.5) and progress[0] == before

        until(blocked, "the client is blocked")
        assert progress[0] < STOPPED
        twisted.server.say("/go")
        assert done.wait(TRANSFER_TIMEOUT)
        head = client.recv_head()
        assert client.recv_body(head).decode() == f"{STOPPED} {checksums[0]}"
