"""Hosts that work: the simulated one, nginx and QEMU, with every way to trust them."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from tests.support.broken_host import TARGET, examine
from tests.support.certificates import Authority, Certificate
from tests.support.programs import Nginx, Qemu, free_port, until
from tests.support.scripts import opened, sends
from tests.support.sim_program import Host
from tests.support.websocket import BINARY, PING, frame
from tests.support.websocket_peers import Connection, Script, ScriptedUpstream

StartUpstream = Callable[..., ScriptedUpstream]
STEPS = ["dns", "tcp", "handshake", "subprotocol", "first frame", "ping", "close"]
HELLO = frame(BINARY, b"RFB 003.008\n")


def test_the_simulated_host(host: Host) -> None:
    """0: every step, each with its time, RFB 3.8 and a ping that is answered."""
    outcome = examine(f"ws://127.0.0.1:{host.port}{host.target()}")
    report = outcome.report
    assert outcome.status == 0 and report["ok"] and report["failed"] is None
    assert [step["name"] for step in report["steps"]] == STEPS
    assert all(0 <= step["seconds"] < 5 for step in report["steps"])
    assert report["url"] == f"ws://127.0.0.1:{host.port}/ticket/***"
    assert outcome.step("handshake")["facts"]["request"][0] == "GET /ticket/*** HTTP/1.1"
    assert outcome.step("handshake")["facts"]["accept_right"] is True
    assert outcome.step("subprotocol")["facts"] == {"offered": ["binary"], "chosen": "binary"}
    assert outcome.step("first frame")["facts"] == {"opcode": "2 (binary)", "length": 12, "rfb": "003.008"}
    assert outcome.step("ping")["facts"] == {"answered": True}
    assert outcome.step("close")["facts"]["close_code"] == 1000


def test_the_simulated_host_with_tls(host: Host) -> None:
    """0 with a matching pin or the authority's file; 12 without, and the ticket is as good as before."""
    target = host.target()
    url = f"wss://127.0.0.1:{host.tls_port}{target}"
    before = host.stats()["tickets_used"]
    assert examine(url).status == 12
    assert host.stats()["tickets_used"] == before
    assert examine(url, "--pin", "sha1:" + host.ready["sha1"]).status == 0
    assert host.stats()["tickets_used"] == before + 1


def test_a_used_ticket(host: Host) -> None:
    """13: the second use is a 403."""
    url = f"ws://127.0.0.1:{host.port}{host.target()}"
    assert examine(url).status == 0
    again = examine(url)
    assert again.status == 13 and "the ticket was used already" in again.sentence


def test_no_connection_is_left(host: Host) -> None:
    """A leaked leg would count against the host's limit."""
    examine(f"wss://127.0.0.1:{host.tls_port}{host.target()}", "--insecure")
    examine(f"ws://127.0.0.1:{host.port}{host.target()}")
    until(lambda: host.stats()["consoles"] == 0, "the host has no console any more")


@pytest.mark.parametrize("trust", ["ca", "pin", "insecure"])
def test_tls_facts(upstream: StartUpstream, authority: Authority, good: Certificate, trust: str) -> None:
    """Every kind of trust has version, cipher, names, dates, thumbprints, chain and name."""
    options = {
        "ca": ["--ca", str(authority.path)],
        "pin": ["--pin", f"sha256:{good.sha256}"],
        "insecure": ["--insecure"],
    }[trust]
    outcome = examine(f"wss://localhost:{upstream(sends(HELLO), good).port}{TARGET}", *options)
    assert outcome.status == 0
    facts = outcome.step("tls")["facts"]
    assert facts["version"] == "TLSv1.3" and facts["cipher"].startswith("TLS_")
    assert facts["subject"] == "CN=localhost" and facts["issuer"] == "CN=esxiproxy test CA"
    assert facts["names"] == ["localhost", "127.0.0.1", "::1"]
    assert facts["chain_verifies"] is (trust == "ca") and facts["name_matches"] is True
    assert facts["pin"] == [f"sha256:{good.sha256}", f"sha1:{good.sha1}"]
    assert facts["valid_until"] > facts["valid_from"] > "20"
    assert facts["request_sent"] is True


def test_an_ipv6_only_host(upstream: StartUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address is tried, the one that answers is used, and the other one is named."""
    with socket.socket(socket.AF_INET6) as listening:
        try:
            listening.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        port = listening.getsockname()[1]
        listening.listen()
        entries = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
        outcome = examine(f"ws://esxi1.example:{port}{TARGET}", timeout=0.3)
    tcp = outcome.step("tcp")
    assert outcome.step("dns")["facts"]["addresses"] == ["127.0.0.1", "::1"]
    assert tcp["ok"] and tcp["facts"]["answered"] == "::1"
    assert "127.0.0.1 refused" in tcp["sentence"]
    assert outcome.status == 13  # no process accepts here; other tests check the rest


def test_an_ipv6_literal() -> None:
    """The address is in brackets, with its port."""
    port = free_port()
    outcome = examine(f"ws://[::1]:{port}/")
    assert outcome.status == 11
    assert outcome.report["url"] == f"ws://[::1]:{port}/"


@pytest.mark.parametrize(
    ("options", "offered"),
    [
        (["--subprotocol", "none"], None),
        (["--subprotocol", "vmware-vvc", "--subprotocol", "binary"], "vmware-vvc, binary"),
    ],
)
def test_the_offered_subprotocols(upstream: StartUpstream, options: list[str], offered: str | None) -> None:
    """The names as given and in their order, or none."""
    server = upstream(sends(HELLO))
    assert examine(f"ws://127.0.0.1:{server.port}/", *options).status == 0
    request = server.connection(0).request
    assert request is not None and request.one("Sec-WebSocket-Protocol") == offered
    assert request.one("Host") == f"127.0.0.1:{server.port}"


def test_the_target_goes_out_byte_for_byte(upstream: StartUpstream) -> None:
    """The target is neither decoded nor normalized."""
    server = upstream(sends(HELLO))
    assert examine(f"ws://127.0.0.1:{server.port}//a;x=1/%2f?b=&c+d").status == 0
    request = server.connection(0).request
    assert request is not None and request.target == "//a;x=1/%2f?b=&c+d"


@pytest.mark.parametrize(
    "script",
    [
        sends(frame(PING, b"are you there"), HELLO),
        sends(
            *(
                frame(2 if place == 0 else 0, bytes([byte]), fin=place == 11)
                for place, byte in enumerate(b"RFB 003.008\n")
            )
        ),
        sends(HELLO + frame(BINARY, bytes(100_000))),
    ],
    ids=["a ping first", "one byte a frame", "a long frame after it"],
)
def test_an_rfb_version_in_any_pieces(upstream: StartUpstream, script: Script) -> None:
    """Control frames, fragments and long frames do not hide it, nor the pong behind it."""
    outcome = examine(f"ws://127.0.0.1:{upstream(script).port}/")
    assert outcome.status == 0
    assert outcome.step("first frame")["facts"]["rfb"] == "003.008"
    assert outcome.step("ping")["facts"]["answered"] is True


def test_a_first_frame_that_is_no_rfb(upstream: StartUpstream) -> None:
    """Such a frame is no failure, and the sentence says that it is no RFB."""
    outcome = examine(f"ws://127.0.0.1:{upstream(sends(frame(BINARY, bytes(200_000)))).port}/")
    assert outcome.status == 0
    assert outcome.step("first frame")["facts"]["length"] == 200_000
    assert "not an RFB version" in outcome.step("first frame")["sentence"]


def test_a_ping_and_a_close_without_an_answer(upstream: StartUpstream) -> None:
    """The status is 0, because ESXi answers no ping, and the proxy closes TCP then."""

    def deaf(connection: Connection) -> None:
        connection.send_raw(HELLO)
        connection.recv_eof(60)

    outcome = examine(f"ws://127.0.0.1:{upstream(opened(deaf)).port}/", timeout=1.0)
    assert outcome.status == 0
    assert "leave upstream_ping_interval off" in outcome.step("ping")["sentence"]
    assert outcome.step("close")["facts"] == {"answered": False}


def test_nginx() -> None:
    """13: it has nothing at that path."""
    port = free_port()
    with Nginx(f"server {{ listen 127.0.0.1:{port}; location / {{ return 404; }} }}"):
        outcome = examine(f"ws://127.0.0.1:{port}{TARGET}")
    assert outcome.status == 13
    assert f"127.0.0.1:{port} answered 404 Not Found" in outcome.sentence
    assert any(field.startswith("Server: nginx") for field in outcome.step("handshake")["facts"]["fields"])


def test_nginx_with_tls(authority: Authority, good: Certificate) -> None:
    """The doctor explains the 400 for plain HTTP on the TLS port, and the answer to TLS on the plain port."""
    plain, secure = free_port(), free_port()
    text = (
        f"server {{ listen 127.0.0.1:{plain}; listen 127.0.0.1:{secure} ssl; "
        f"ssl_certificate {good.path}; ssl_certificate_key {good.key_path}; location / {{ return 404; }} }}"
    )
    with Nginx(text):
        assert "answered 404" in examine(f"wss://127.0.0.1:{secure}/x", "--ca", str(authority.path)).sentence
        assert "use wss://" in examine(f"ws://127.0.0.1:{secure}/x").sentence
        assert "use ws://" in examine(f"wss://127.0.0.1:{plain}/x").sentence


def test_qemu() -> None:
    """0: RFB 003.008 from a real machine's console."""
    with Qemu() as machine:
        outcome = examine(f"ws://127.0.0.1:{machine.port}/")
    assert outcome.status == 0, outcome.out
    assert outcome.step("first frame")["facts"]["rfb"] == "003.008"


@pytest.mark.parametrize(
    "before", [b"\r\n", b"\r\n" * 8, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\r\n"]
)
def test_empty_lines_before_the_status_line_are_accepted(upstream: StartUpstream, before: bytes) -> None:
    """The proxy accepts such lines too, also after an interim answer, and the first frame is kept."""

    def accept(connection: Connection) -> None:
        connection.read_request()
        connection.send_raw(before)
        connection.accept()
        connection.send_raw(HELLO)
        connection.serve()

    outcome = examine(f"ws://127.0.0.1:{upstream(accept).port}{TARGET}")
    assert outcome.status == 0
    assert outcome.step("first frame")["facts"]["rfb"] == "003.008"
