"""The whole host, as a program, over real sockets."""

import hashlib
import json
import ssl
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.rfb_client import RfbClient
from tests.support.sim_program import Host, start, stop
from tests.support.websocket import BINARY, CLOSE, PING, PONG, TEXT

HostWith = Callable[..., Host]


def open_console(host: Host, query: str = "", tls: bool = False) -> RfbClient:
    client = RfbClient(host.tls_port if tls else host.port, tls)
    client.open(host.target(query), ["binary"])
    return client


@pytest.mark.parametrize("tls", [False, True])
def test_a_console_from_handshake_to_picture(host: Host, tls: bool) -> None:
    """The subprotocol is binary, RFB 3.8 follows, and the first update is the whole screen."""
    with RfbClient(host.tls_port if tls else host.port, tls) as client:
        head = client.open(host.target(), ["vmware-vvc", "binary"])
        assert head.one("Sec-WebSocket-Protocol") == "binary"
        assert not head.all("Server") and not head.all("Sec-WebSocket-Extensions")
        width, height, name = client.start_rfb()
        assert (width, height, name) == (640, 400, "simulated VM")
        client.ask_update(width, height)
        rects = client.update()
        assert sum(w * h for _, _, w, h, _ in rects) >= width * height
        client.ask_update(width, height, incremental=True)
        assert client.update()


def test_the_certificate_is_the_announced_one(host: Host) -> None:
    """The announced thumbprints are right, and 127.0.0.1 is a name of the certificate."""
    der = ssl.PEM_cert_to_DER_cert(host.ready["pem"])
    for name in ("sha1", "sha256"):
        assert host.ready[name].replace(":", "").lower() == hashlib.new(name, der).hexdigest()
    context = ssl.create_default_context(cadata=host.ready["pem"])
    with RfbClient(host.tls_port) as client:
        secured = context.wrap_socket(client.stream, server_hostname="127.0.0.1")
        assert secured.getpeercert(binary_form=True) == der
        secured.close()


def test_a_ticket_opens_one_console(host: Host) -> None:
    """The second use is 403 with a body, before any 101; an unknown one likewise."""
    target = host.target()
    before = host.stats()["tickets_refused"]
    with RfbClient(host.port) as first:
        first.open(target, ["binary"])
        for again in (target, "/ticket/unknown", "/ticket/"):
            with RfbClient(host.port) as second:
                second.send_opening(again, ["binary"])
                head, body = second.recv_answer()
                assert head.status == 403 and b"ticket" in body and target.encode() not in body
                assert (head.one("Content-Type") or "").startswith("text/plain")
    assert host.stats()["tickets_refused"] == before + 3


def test_an_expired_ticket_is_refused(host_with: HostWith) -> None:
    """A ticket with a lifetime of 0 expires at once."""
    host = host_with("--ticket-lifetime", "0.000001")
    with RfbClient(host.port) as client:
        client.send_opening(host.target(), ["binary"])
        assert client.recv_answer()[0].status == 403


@pytest.mark.parametrize("offer", [None, "uint8utf8"])
def test_a_client_without_the_subprotocol_is_dropped(host: Host, offer: str | None) -> None:
    """The host sends no HTTP, and the ticket can still be used."""
    target = host.target()
    with RfbClient(host.port) as client:
        client.send_opening(target, [offer] if offer else [])
        assert client.recv_rest() == b""
    with RfbClient(host.port) as client:
        client.open(target, ["binary"])


def test_a_lenient_host_takes_a_client_without_subprotocol(host_with: HostWith) -> None:
    """The 101 names none then."""
    host = host_with("--no-require-subprotocol")
    with RfbClient(host.port) as client:
        assert client.open(host.target()).one("Sec-WebSocket-Protocol") is None
        client.start_rfb()


def test_uint8utf8_goes_in_text_messages(host_with: HostWith) -> None:
    """Every byte is a code point."""
    host = host_with("--subprotocols", "binary,uint8utf8")
    with RfbClient(host.port) as client:
        assert client.open(host.target(), ["uint8utf8"]).one("Sec-WebSocket-Protocol") == "uint8utf8"
        assert client.console(12, TEXT) == b"RFB 003.008\n"
        client.send_frame(TEXT, b"RFB 003.008\n\x01\x01")
        greeting = client.console(2 + 4 + 24 + len("simulated VM"), TEXT)
        assert b"\xff" in greeting and greeting.endswith(b"simulated VM")
        client.send_frame(TEXT, "\u20ac".encode())
        assert client.recv_frame().opcode == CLOSE


def test_pings_are_not_answered_and_a_close_is(host: Host) -> None:
    """A ping before the Close has no answer. The Close is answered, then TCP ends."""
    with open_console(host) as client:
        client.console(12)
        client.send_frame(PING, b"?")
        client.send_frame(CLOSE, struct.pack("!H", 1000))
        _, _, opcode, _, payload = client.recv_frame()
        assert (opcode, payload[:2]) == (CLOSE, struct.pack("!H", 1000))
        assert client.recv_rest() == b""


def test_pings_are_answered_with_the_option(host_with: HostWith) -> None:
    """The option turns Pongs on."""
    with open_console(host_with("--answer-pings")) as client:
        client.console(12)
        client.send_frame(PING, b"?")
        assert client.recv_frame()[2:] == (PONG, False, b"?")


def test_the_129th_connection_is_refused(host_with: HostWith) -> None:
    """The connections of both ports count together.

    One too many is closed at once, and a free place is used again.
    """
    host = host_with()
    crowd = [RfbClient(host.port)]
    crowd += [RfbClient(port) for port in [host.port, host.tls_port] * 63]
    # What asks is the 128th; the ports' queues are emptied in no order between them.
    while host.stats()["open"] < 128:
        pass
    crowd.append(RfbClient(host.port))
    with RfbClient(host.port) as late:
        assert late.recv_rest() == b""
    with RfbClient(host.tls_port) as late:
        assert late.recv_rest() == b""
    # Its own answer shows that the host has seen it go.
    crowd[0].get("/", ("Connection", "close"))
    assert crowd[0].recv_answer()[0].status == 200
    stats = host.stats()
    assert (stats["open"], stats["peak"], stats["refused"]) == (128, 128, 2)
    for client in crowd:
        client.stream.close()


def test_a_typed_key_changes_the_picture(host_with: HostWith) -> None:
    """In a still picture the key's cell is the only change. The mark of the button is the next one."""
    with open_console(host_with("--frame-interval", "0")) as client:
        width, height, _ = client.start_rfb()
        client.ask_update(width, height)
        client.update()
        client.ask_update(width, height, incremental=True)
        client.send_frame(BINARY, struct.pack("!BBxxI", 4, 1, ord("A")))
        ((x, y, _, _, pixels),) = client.update()
        assert y >= 152 and b"\xf0\xf0\xf0" in pixels
        client.ask_update(width, height, incremental=True)
        client.send_frame(BINARY, struct.pack("!BBHH", 5, 1, 300, 300))
        ((x, y, _, _, pixels),) = client.update()
        assert (x, y) == (294, 294) and b"\x40\x40\xff" in pixels


def test_messages_are_cut_to_a_size(host_with: HostWith) -> None:
    """An update comes in many messages and is the same."""
    with open_console(host_with("--message-size", "5")) as client:
        assert [len(client.recv_frame().payload) for _ in range(3)] == [5, 5, 2]


def test_broken_rfb_ends_with_a_close(host: Host) -> None:
    """1008 and a reason."""
    with open_console(host) as client:
        client.console(12)
        client.send_frame(BINARY, b"GET / HTTP/1.1\r\n\r\n")
        _, _, opcode, _, payload = client.recv_frame()
        assert opcode == CLOSE and payload.startswith(struct.pack("!H", 1008) + b"RFB: ")


@pytest.mark.parametrize("broken", [b"\x82\x01x", b"\x83\x80\0\0\0\0", b"\xc2\x80\0\0\0\0"])
def test_broken_frames_end_with_1002(host: Host, broken: bytes) -> None:
    """An unmasked frame, a reserved opcode, a reserved bit; a second one ends TCP."""
    with open_console(host) as client:
        client.console(12)
        client.send_raw(broken)
        _, _, opcode, _, payload = client.recv_frame()
        assert (opcode, payload[:2]) == (CLOSE, struct.pack("!H", 1002))
        client.send_raw(broken)
        client.recv_rest()


def test_a_viewer_that_does_not_read_takes_one_update(host: Host) -> None:
    """A thousand requests unread, and the host still serves others."""
    with open_console(host) as client:
        client.start_rfb()
        for _ in range(1000):
            client.ask_update(640, 400)
        assert host.stats()["consoles"] >= 1


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/", 200, "simulated ESXi host"),
        ("/nothing", 404, ""),
        ("/ticket/x", 426, ""),
        ("/sim/stats", 200, '"open"'),
    ],
)
def test_plain_http(host: Host, path: str, status: int, text: str) -> None:
    """The pages, over TLS too."""
    for port, tls in ((host.port, False), (host.tls_port, True)):
        with RfbClient(port, tls) as client:
            client.get(path, ("Connection", "close"))
            head = client.recv_head()
            body = client.recv_rest()
            assert head.status == status and text in body.decode()
            assert int(head.one("Content-Length") or "") == len(body)


def test_a_page_of_another_origin_may_fetch_a_ticket(host: Host, host_with: HostWith) -> None:
    """CORS allows all origins, and an option removes the endpoint."""
    with RfbClient(host.port) as client:
        client.get("/sim/ticket", ("Origin", "http://elsewhere.example"))
        head, body = client.recv_answer()
    assert (head.status, head.one("Access-Control-Allow-Origin"), len(body)) == (200, "*", 32)
    with RfbClient(host_with("--no-ticket-endpoint").port) as client:
        client.get("/sim/ticket")
        assert client.recv_answer()[0].status == 404


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 17000, 431),
        (b"GET /ticket/x HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: binary\r\n\r\n", 400),
        (b"GET /other HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", 404),
    ],
)
def test_requests_that_are_refused(host: Host, request_bytes: bytes, status: int) -> None:
    """Each has its status and a body."""
    with RfbClient(host.port) as client:
        client.send_raw(request_bytes)
        head, body = client.recv_answer()
        assert head.status == status and body


def test_head_has_no_body(host: Host) -> None:
    """HEAD gets the length and nothing more."""
    with RfbClient(host.port) as client:
        client.get("/", method="HEAD")
        head = client.recv_head()
        assert head.status == 200 and int(head.one("Content-Length") or "") > 0
        assert client.recv_rest() == b""


def test_the_same_certificate_after_a_restart(host_with: HostWith, tmp_path: Path) -> None:
    """A path keeps it."""
    path = str(tmp_path / "host.pem")
    first = host_with("--certificate", path).ready["sha256"]
    again = host_with("--certificate", path, "--port", "none").ready
    assert again["sha256"] == first and again["ws"] is None


def test_a_port_in_use_is_said_and_ends_with_1(host: Host) -> None:
    """The host prints one line without a traceback, and exits with 1."""
    with pytest.raises(AssertionError, match=r": 1$"):
        start("--port", str(host.port), "--tls-port", "none")


def test_a_stop_ends_open_connections() -> None:
    """SIGTERM closes consoles and idle connections and ends with status 0."""
    host = start()
    with open_console(host) as client, RfbClient(host.tls_port) as idle:
        client.console(12)
        assert stop(host) == 0
        client.recv_rest()
        assert idle.recv_rest() == b""


def test_the_counters(host_with: HostWith) -> None:
    """The counters are JSON, and include this request."""
    host = host_with()
    target = host.target()
    with RfbClient(host.port) as client:
        client.open(target, ["binary"])
        client.console(12)
        stats = json.loads(host.get("/sim/stats"))
    assert (stats["consoles"], stats["tickets_issued"], stats["tickets_used"]) == (1, 1, 1)
    assert stats["total"] == 3 and stats["open"] >= 2
