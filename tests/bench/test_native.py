"""The load and the upstream in C: their bytes, and the counts of the load."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.build import programs
from tests.support.certificates import self_signed
from tests.support.programs import environment

CHUNKS = 15 * 16384
"""A chunked body is a multiple of this."""


@pytest.fixture(scope="module")
def native():
    found = programs()
    if found.language != "C" and os.environ.get("ESXIPROXY_REQUIRE_ALL") != "1":
        pytest.skip("install Debian packages gcc and libssl-dev")
    assert found.language == "C"
    assert found.has_http
    return found


@pytest.fixture(scope="module")
def ports(native, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    folder: Path = tmp_path_factory.mktemp("upstream")
    pairs = [self_signed(folder, "ec"), self_signed(folder, "rsa", key="rsa")]
    files = [path for pair in pairs for path in (pair.path, pair.key_path)]
    process = subprocess.Popen(
        [*native.upstream, *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    )
    assert process.stdin is not None and process.stdout is not None
    with process:
        yield json.loads(process.stdout.readline())
        process.stdin.close()
        assert process.wait(10) == 0


def load(native, case: str, **options: float) -> dict[str, float]:
    given = {"seconds": 0.03, "warm": 0} | options
    command = [*native.load, case, *(f"{name}={value:g}" for name, value in given.items())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


@pytest.mark.parametrize("name", ["ws", "wss"])
def test_the_upstream_answers_plain_http_on_one_kept_connection(ports, name):
    if name == "ws":
        client = http.client.HTTPConnection("127.0.0.1", ports[name], timeout=10)
    else:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = http.client.HTTPSConnection("127.0.0.1", ports[name], timeout=10, context=context)
    client.connect()
    connection = client.sock
    for size, length in (("612", 612), ("0", 0), ("1000000", 1_000_000), ("chunked/100000", CHUNKS)):
        client.request("GET", f"/http/{size}")
        answer = client.getresponse()
        assert answer.status == 200
        assert (answer.getheader("Transfer-Encoding") == "chunked") == size.startswith("chunked")
        assert answer.read() == bytes(length)
    for body in (b"", b"x", b"y" * 1_000_000):
        client.request("PUT", "/http/up", body)
        assert client.getresponse().read() == b"ok"
        client.request("PUT", "/http/up", iter([body[:7], body[7:]] if body else []), encode_chunked=True)
        assert client.getresponse().read() == b"ok"
    assert client.sock is connection
    client.close()


def test_a_chunked_upload_may_come_octet_by_octet(ports):
    request = (
        b"PUT /http/up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"a;name=value\r\n0123456789\r\n1\r\n\n\r\n0\r\nSome: trailer\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", ports["ws"]), 10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in request[:-1]:
            client.sendall(bytes([octet]))
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
        client.setblocking(True)
        client.sendall(request[-1:])
        answer = b""
        while not answer.endswith(b"ok"):
            answer += client.recv(4096)
    assert answer == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("upstream", ["ws", "wss", "rsa"])
def test_the_load_counts_requests_bytes_and_sessions(native, ports, upstream):
    given = {"port": ports[upstream], "tls": int(upstream != "ws")}
    for options in ({}, {"fresh": 1}):
        assert load(native, "get", connections=4, size=612, **options, **given)["rate"] > 0
    for chunked in (0, 1):
        assert load(native, "download", size=1 << 20, chunked=chunked, **given)["rate"] > 0
        assert load(native, "upload", size=1 << 14, chunked=chunked, **given)["rate"] > 0
    for direction in ("down", "up"):
        assert load(native, direction, size=4096, seconds=0.1, **given)["rate"] > 0
    for closing in (0, 1):
        assert load(native, "open", connections=2, closing=closing, **given)["rate"] > 0


def test_sessions_are_resumed_where_the_upstream_has_tickets(native, ports):
    for upstream in ("wss", "tickets", "rsa", "cold"):
        figures = load(native, "open", port=ports[upstream], tls=1, resume=1)
        assert (figures["resumed"] > 0) == (upstream != "cold")


def test_sessions_come_at_the_asked_rate(native, ports):
    figures = load(native, "open", port=ports["ws"], connections=2, rate=100, seconds=0.2, warm=0)
    assert figures["rate"] <= 110


def test_a_refused_request_ends_the_load(native, ports):
    command = [*native.load, "get", f"port={ports['raw']}", "seconds=0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("refused: ")
