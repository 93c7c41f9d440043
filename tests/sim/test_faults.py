"""Every fault, over both ports where TLS makes a difference."""

import ssl
import struct
import time
from collections.abc import Callable

import pytest

from esxiproxy.sim.faults import SimFault
from tests.support.rfb_client import RfbClient
from tests.support.sim_program import Host
from tests.support.websocket import BINARY, CLOSE, KEY, accept_of

HostWith = Callable[..., Host]


@pytest.fixture(params=[False, True], ids=["ws", "wss"])
def client(request: pytest.FixtureRequest, host: Host) -> RfbClient:
    tls = bool(request.param)
    connection = RfbClient(host.tls_port if tls else host.port, tls)
    request.addfinalizer(connection.stream.close)
    return connection


def test_refuse(client: RfbClient, host: Host) -> None:
    """The status and the body that were asked for, and the ticket is still good."""
    target = host.target()
    client.send_opening(target + "?fault=refuse&status=429&body=come+later", ["binary"])
    head, body = client.recv_answer()
    assert (head.status, body) == (429, b"come later")
    with RfbClient(host.port) as again:
        again.open(target, ["binary"])


def test_wrong_accept(client: RfbClient, host: Host) -> None:
    """A 101 whose accept value is another's."""
    client.send_opening(host.target("?fault=wrong-accept"), ["binary"])
    head = client.recv_head()
    assert head.status == 101 and head.one("Sec-WebSocket-Accept") != accept_of(KEY)


def test_wrong_subprotocol(client: RfbClient, host: Host) -> None:
    """A 101 with a subprotocol that was not offered."""
    head = client.open(host.target("?fault=wrong-subprotocol"), ["binary"])
    assert head.one("Sec-WebSocket-Protocol") not in ("", "binary")


def test_silent_request(client: RfbClient, host: Host) -> None:
    """The host sends nothing, and TCP stays open."""
    client.send_opening(host.target("?fault=silent-request"), ["binary"])
    client.send_raw(b"more")
    assert client.is_silent(0.3)


def test_silent_connect(host_with: HostWith) -> None:
    """Neither port answers TLS or a request. The connections count, and end with the host."""
    host = host_with("--fault", "silent-connect")
    with RfbClient(host.port) as client:
        client.get("/sim/stats")
        assert client.is_silent(0.3)
    with RfbClient(host.tls_port) as client:
        context = ssl.create_default_context(cadata=host.ready["pem"])
        client.stream.settimeout(0.3)
        with pytest.raises(TimeoutError):
            context.wrap_socket(client.stream, server_hostname="localhost")


def test_garbage(client: RfbClient, host: Host) -> None:
    """The answer is no HTTP."""
    client.send_opening(host.target("?fault=garbage"), ["binary"])
    assert client.recv_rest().startswith(b"SSH-")


def test_endless_head(client: RfbClient, host: Host) -> None:
    """The host sends a megabyte of fields without an end, and continues to serve."""
    client.send_opening(host.target("?fault=endless-head"), ["binary"])
    head = client.recv_exactly(1 << 20)
    assert head.startswith(b"HTTP/1.1 101 ") and b"\r\n\r\n" not in head
    assert host.stats()["open"] >= 1


def test_delay(client: RfbClient, host: Host) -> None:
    """The 101 comes late, and what was sent meanwhile is not lost."""
    begin = time.monotonic()
    client.send_opening(host.target("?fault=delay&seconds=0.3"), ["binary"])
    client.send_frame(BINARY, b"RFB 003.008\n\x01\x01")
    assert client.recv_head().status == 101 and time.monotonic() - begin >= 0.3
    assert client.console(12 + 2 + 4 + 24 + 12).endswith(b"simulated VM")


def test_a_delayed_client_cannot_send_without_end(client: RfbClient, host: Host) -> None:
    """Past 64 KiB it is dropped."""
    client.send_opening(host.target("?fault=delay&seconds=60"), ["binary"])
    with pytest.raises(OSError):
        for _ in range(1000):
            client.send_raw(bytes(65536))
    assert client.recv_rest() == b""


def test_drop(client: RfbClient, host: Host) -> None:
    """TCP ends right after the 101, without a Close."""
    client.open(host.target("?fault=drop"), ["binary"])
    assert client.recv_rest() == b""


def test_drop_mid_frame(client: RfbClient, host: Host) -> None:
    """A frame begins and does not end."""
    client.open(host.target("?fault=drop-mid-frame"), ["binary"])
    assert client.recv_exactly(4) == b"\x82\x7e\xff\xff"
    assert client.recv_rest() == bytes(100)


def test_a_fault_some_time_after_the_101(client: RfbClient, host: Host) -> None:
    """The console works until then."""
    client.open(host.target("?fault=drop-mid-frame&seconds=2"), ["binary"])
    client.start_rfb()
    assert client.recv_rest().endswith(b"\x82\x7e\xff\xff" + bytes(100))


def test_close(client: RfbClient, host: Host) -> None:
    """The code and the reason that were asked for; TCP ends with the answer."""
    client.open(host.target("?fault=close&code=1011&reason=bye"), ["binary"])
    assert client.recv_close() == (1011, "bye")
    client.send_frame(CLOSE, struct.pack("!H", 1011))
    assert client.recv_rest() == b""


def test_a_close_that_is_not_answered_ends_too(host_with: HostWith) -> None:
    """The connection ends after close_timeout."""
    host = host_with("--fault", "close", "--close-timeout", "0.2")
    with RfbClient(host.port) as client:
        client.open(host.target(), ["binary"])
        assert client.recv_frame().opcode == CLOSE
        assert client.recv_rest() == b""


def test_close_linger(client: RfbClient, host: Host) -> None:
    """A Close, and TCP stays even when it was answered."""
    client.open(host.target("?fault=close-linger&code=4000"), ["binary"])
    assert client.recv_frame().payload[:2] == struct.pack("!H", 4000)
    client.send_frame(CLOSE, struct.pack("!H", 4000))
    assert client.is_silent(0.3)


def test_ignore_close(client: RfbClient, host: Host) -> None:
    """The console works; its end is not answered."""
    client.open(host.target("?fault=ignore-close"), ["binary"])
    client.start_rfb()
    client.send_frame(CLOSE, struct.pack("!H", 1000))
    assert client.is_silent(0.3)


def test_bad_frame(client: RfbClient, host: Host) -> None:
    """A reserved opcode."""
    client.open(host.target("?fault=bad-frame"), ["binary"])
    assert client.recv_frame().opcode == 3


def test_stall(client: RfbClient, host: Host) -> None:
    """The host does not read: the client's bytes stay in the sockets until they are full."""
    client.open(host.target("?fault=stall"), ["binary"])
    client.stream.settimeout(0.3)
    with pytest.raises(TimeoutError):
        for _ in range(1000):
            client.stream.sendall(bytes(65536))


def test_a_fault_of_the_whole_host(host_with: HostWith) -> None:
    """Options choose it for every console; its pages still work."""
    host = host_with(
        "--fault", "refuse", "--fault-status", "404", "--fault-body", "gone", "--no-allow-fault-query"
    )
    with RfbClient(host.port) as client:
        client.send_opening(host.target("?fault=close"), ["binary"])
        head, body = client.recv_answer()
        assert (head.status, body) == (404, b"gone")


def test_an_unknown_fault_is_400(client: RfbClient, host: Host) -> None:
    """The ticket can still be used."""
    client.send_opening(host.target("?fault=nonsense"), ["binary"])
    assert client.recv_answer()[0].status == 400


def test_every_fault_has_a_test() -> None:
    """This file has a test with the name of each fault."""
    for fault in SimFault:
        assert f"test_{fault.name.lower()}" in globals()
