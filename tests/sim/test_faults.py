"""Every fault, over both ports where TLS makes a difference."""

import ssl
import struct
import time
from collections.abc import Callable

import pytest

from esxiproxy.sim.faults import SimFault
from tests.support.rfb_client import ACCEPT, BINARY, CLOSE, Client
from tests.support.sim_program import Host

HostWith = Callable[..., Host]


@pytest.fixture(params=[False, True], ids=["ws", "wss"])
def client(request: pytest.FixtureRequest, host: Host) -> Client:
    tls = bool(request.param)
    connection = Client(host.tls_port if tls else host.port, tls)
    request.addfinalizer(connection.socket.close)
    return connection


def test_refuse(client: Client, host: Host) -> None:
    """The status and the body that were asked for, and the ticket is still good."""
    target = host.target()
    client.ask_upgrade(target + "?fault=refuse&status=429&body=come+later")
    status, _, body = client.answer()
    assert (status, body) == (429, "come later")
    with Client(host.port) as again:
        again.open(target)


def test_wrong_accept(client: Client, host: Host) -> None:
    """A 101 whose accept value is another's."""
    client.ask_upgrade(host.target("?fault=wrong-accept"))
    status, fields = client.head()
    assert status == 101 and fields["sec-websocket-accept"] != ACCEPT


def test_wrong_subprotocol(client: Client, host: Host) -> None:
    """A 101 with a subprotocol that was not offered."""
    assert client.open(host.target("?fault=wrong-subprotocol"))["sec-websocket-protocol"] not in (
        "",
        "binary",
    )


def test_silent_request(client: Client, host: Host) -> None:
    """Nothing comes, and TCP stays."""
    client.ask_upgrade(host.target("?fault=silent-request"))
    client.send(b"more")
    assert client.quiet()


def test_silent_connect(host_with: HostWith) -> None:
    """Not even TLS or a page is answered, on either port; the connections count and end with the host."""
    host = host_with("--fault", "silent-connect")
    with Client(host.port) as client:
        client.request("/sim/stats")
        assert client.quiet()
    with Client(host.tls_port) as client:
        context = ssl.create_default_context(cadata=host.ready["pem"])
        client.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            context.wrap_socket(client.socket, server_hostname="localhost")


def test_garbage(client: Client, host: Host) -> None:
    """What comes is no HTTP."""
    client.ask_upgrade(host.target("?fault=garbage"))
    assert client.rest().startswith(b"SSH-")


def test_endless_head(client: Client, host: Host) -> None:
    """A megabyte of fields and no end of them; the host goes on serving."""
    client.ask_upgrade(host.target("?fault=endless-head"))
    head = client.take(1 << 20)
    assert head.startswith(b"HTTP/1.1 101 ") and b"\r\n\r\n" not in head
    assert host.stats()["open"] >= 1


def test_delay(client: Client, host: Host) -> None:
    """The 101 comes late, and what was sent meanwhile is not lost."""
    begin = time.monotonic()
    client.ask_upgrade(host.target("?fault=delay&seconds=0.3"))
    client.send_frame(BINARY, b"RFB 003.008\n\x01\x01")
    status, _ = client.head()
    assert status == 101 and time.monotonic() - begin >= 0.3
    assert client.console(12 + 2 + 4 + 24 + 12).endswith(b"simulated VM")


def test_a_delayed_client_cannot_send_without_end(client: Client, host: Host) -> None:
    """Past 64 KiB it is dropped."""
    client.ask_upgrade(host.target("?fault=delay&seconds=60"))
    with pytest.raises(OSError):
        for _ in range(1000):
            client.send(bytes(65536))
    assert client.rest() == b""


def test_drop(client: Client, host: Host) -> None:
    """TCP ends right after the 101, without a Close."""
    client.open(host.target("?fault=drop"))
    assert client.rest() == b""


def test_drop_mid_frame(client: Client, host: Host) -> None:
    """A frame begins and does not end."""
    client.open(host.target("?fault=drop-mid-frame"))
    assert client.take(4) == b"\x82\x7e\xff\xff"
    assert client.rest() == bytes(100)


def test_a_fault_some_time_after_the_101(client: Client, host: Host) -> None:
    """The console works until then."""
    client.open(host.target("?fault=drop-mid-frame&seconds=0.5"))
    client.start_rfb()
    assert client.rest().endswith(b"\x82\x7e\xff\xff" + bytes(100))


def test_close(client: Client, host: Host) -> None:
    """The code and the reason that were asked for; TCP ends with the answer."""
    client.open(host.target("?fault=close&code=1011&reason=bye"))
    assert client.frame() == (CLOSE, struct.pack("!H", 1011) + b"bye")
    client.send_frame(CLOSE, struct.pack("!H", 1011))
    assert client.rest() == b""


def test_a_close_that_is_not_answered_ends_too(host_with: HostWith) -> None:
    """After close_timeout."""
    host = host_with("--fault", "close", "--close-timeout", "0.2")
    with Client(host.port) as client:
        client.open(host.target())
        assert client.frame()[0] == CLOSE
        assert client.rest() == b""


def test_close_linger(client: Client, host: Host) -> None:
    """A Close, and TCP stays even when it was answered."""
    client.open(host.target("?fault=close-linger&code=4000"))
    assert client.frame()[1][:2] == struct.pack("!H", 4000)
    client.send_frame(CLOSE, struct.pack("!H", 4000))
    assert client.quiet()


def test_ignore_close(client: Client, host: Host) -> None:
    """The console works; its end is not answered."""
    client.open(host.target("?fault=ignore-close"))
    client.start_rfb()
    client.send_frame(CLOSE, struct.pack("!H", 1000))
    assert client.quiet()


def test_bad_frame(client: Client, host: Host) -> None:
    """A reserved opcode."""
    client.open(host.target("?fault=bad-frame"))
    assert client.frame()[0] == 3


def test_stall(client: Client, host: Host) -> None:
    """The host does not read: the client's bytes stay in the sockets until they are full."""
    client.open(host.target("?fault=stall"))
    client.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        for _ in range(1000):
            client.send(bytes(65536))


def test_a_fault_of_the_whole_host(host_with: HostWith) -> None:
    """Options choose it for every console; its pages still work."""
    host = host_with(
        "--fault", "refuse", "--fault-status", "404", "--fault-body", "gone", "--no-allow-fault-query"
    )
    with Client(host.port) as client:
        client.ask_upgrade(host.target("?fault=close"))
        status, _, body = client.answer()
        assert (status, body) == (404, "gone")


def test_an_unknown_fault_is_400(client: Client, host: Host) -> None:
    """The name is answered as wrong; the ticket is still good."""
    client.ask_upgrade(host.target("?fault=nonsense"))
    assert client.answer()[0] == 400


def test_every_fault_has_a_test() -> None:
    """This file holds one by each name."""
    for fault in SimFault:
        assert f"test_{fault.name.lower()}" in globals()
