"""Every broken host gets a sentence about its fault, and the exit status of the step that fails."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import threading
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.broken_host import SECRET, TARGET, examine
from tests.support.certificates import Authority, Certificate, self_signed
from tests.support.odd_certificates import Odd, odd_leaf
from tests.support.peer import NotInTime, StreamEnded
from tests.support.programs import black_hole, free_port
from tests.support.scripts import (
    answer,
    drops_before_answer,
    drops_mid_frame,
    endless_head,
    opened,
    refuse,
    sends,
    silent,
    wrong_accept,
)
from tests.support.websocket import BINARY, CLOSE, frame
from tests.support.websocket_peers import Connection, Script, ScriptedUpstream

StartUpstream = Callable[..., ScriptedUpstream]
SHORT = 1.0
"""The timeout of a step that is to pass.  The steps before it are in time on a busy machine, too."""
LONG = 20.0
DAY = timedelta(days=1)


def http(port: int) -> str:
    return f"ws://127.0.0.1:{port}{TARGET}"


def https(port: int, host: str = "127.0.0.1") -> str:
    return f"wss://{host}:{port}{TARGET}"


def mute(connection: Connection) -> None:
    """Take everything, say nothing."""
    with contextlib.suppress(NotInTime, OSError):
        connection.recv_eof(60)


def leave(connection: Connection) -> None:
    """Close as soon as the connection is there."""
    connection.drop()


def hangs_after_101(connection: Connection) -> None:
    connection.read_request()
    connection.accept()
    with contextlib.suppress(NotInTime, StreamEnded, OSError):
        connection.recv_eof(60)


def chooses(subprotocol: str) -> Script:
    """Accept with this subprotocol and say RFB."""
    hello = frame(BINARY, b"RFB 003.008\n")
    return opened(lambda connection: (connection.send_raw(hello), connection.serve())[1], subprotocol)


def closes(connection: Connection) -> None:
    """Send a Close right after the 101."""
    connection.read_request()
    connection.accept()
    connection.send_frame(CLOSE, (1011).to_bytes(2, "big") + f"no more of {SECRET}".encode())
    connection.serve()


def switching(*fields: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 101 Switching Protocols", *fields, "", ""]).encode()


def redirect(connection: Connection) -> None:
    refuse("302 Found", fields=[("Location", f"https://sso.example/login?back=/ticket/{SECRET}")])(connection)


PLAIN_HOSTS: list[tuple[str, Script, int, str]] = [
    ("403", refuse("403 Forbidden", b"used up"), 13, "the ticket was used already"),
    ("404", refuse("404 Not Found"), 13, "nothing is served at this path"),
    ("426", refuse("426 Upgrade Required"), 13, "removes the Upgrade field"),
    ("200", refuse("200 OK", b"<html>"), 13, "served a page and opened no WebSocket"),
    ("302", redirect, 13, "a redirect to https://sso.example/login"),
    ("302 to TLS", redirect, 13, "the service requires TLS. Use wss:// in the URL"),
    ("401", refuse("401 Unauthorized"), 13, "it requires authentication"),
    ("503", refuse("503 Service Unavailable"), 13, "too many connections"),
    ("599", refuse("599 Whatever"), 13, "answered 599 Whatever instead of 101"),
    ("wrong accept", wrong_accept, 13, "a wrong Sec-WebSocket-Accept"),
    ("101 without Upgrade", answer(switching("X-A: b")), 13, "101 without Upgrade: websocket"),
    ("six 102", answer(b"HTTP/1.1 102 Processing\r\n\r\n" * 6), 13, "more than 5 interim answers"),
    ("silent", silent, 13, "did not answer the request within"),
    ("closes at once", leave, 13, "the connection without an answer"),
    ("closes on the request", drops_before_answer, 13, "closed the connection without an answer"),
    ("403 after empty lines", answer(b"\r\n\r\nHTTP/1.1 403 Forbidden\r\n\r\n"), 13, "the ticket was used"),
    ("nine empty lines", answer(b"\r\n" * 9 + b"HTTP/1.1 403 Forbidden\r\n\r\n"), 13, "is not HTTP/1.1"),
    ("cut after an empty line", answer(b"\r\nHTTP/1.1 101 Swit"), 13, "stopped within its head"),
    ("endless head", endless_head, 13, "has a head of more than 16 KiB"),
    ("half a head", answer(b"HTTP/1.1 101 Switching"), 13, "stopped within its head"),
    (
        "garbage",
        answer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        13,
        "is not HTTP/1.1: it began with 'SSH-2.0-OpenSSH_9.2'",
    ),
    ("VMware's port 902", answer(b"220 VMware Authentication Daemon"), 13, "'220 VMware Authentication"),
    ("no subprotocol", chooses(""), 14, "chose no subprotocol, and binary was offered"),
    ("unoffered subprotocol", chooses("vmware-vvc"), 14, "chose the subprotocol vmware-vvc, which was not"),
    ("silent after 101", hangs_after_101, 15, "opened the WebSocket and sent no frame within"),
    (
        "Close after 101",
        closes,
        15,
        "closed the WebSocket right after the 101, with code 1011 (internal error)",
    ),
    ("drops after 101", opened(leave), 15, "the connection right after the 101, without a Close"),
    ("drops within a frame", drops_mid_frame(), 15, "the connection right after the 101, without a Close"),
    ("reserved opcode", sends(frame(3, b"x")), 15, "a frame with the reserved opcode 3"),
    ("masked frame", sends(frame(2, b"x", mask=True)), 15, "a masked frame, which only clients send"),
]


def patience(script: Script) -> float:
    """Return the timeout for a host: a short one where the doctor waits for what does not come."""
    return SHORT if script in (silent, hangs_after_101, drops_before_answer) else LONG


@pytest.mark.parametrize(
    ("script", "status", "words"), [row[1:] for row in PLAIN_HOSTS], ids=[row[0] for row in PLAIN_HOSTS]
)
def test_a_broken_plain_host(upstream: StartUpstream, script: Script, status: int, words: str) -> None:
    """The sentence names the fault and the place, and the exit status the step."""
    port = upstream(script).port
    outcome = examine(http(port), timeout=patience(script))
    assert outcome.status == outcome.report["exit_status"] == status
    assert words in outcome.sentence
    assert f"127.0.0.1:{port}" in outcome.sentence
    assert words in outcome.report["sentence"]


@pytest.mark.parametrize(
    ("script", "status", "words"), [row[1:] for row in PLAIN_HOSTS[:1] + PLAIN_HOSTS[-8:-4]]
)
def test_a_broken_host_behind_tls(
    upstream: StartUpstream, authority: Authority, good: Certificate, script: Script, status: int, words: str
) -> None:
    """TLS changes nothing about what is said of the steps after it."""
    port = upstream(script, good).port
    outcome = examine(https(port), "--ca", str(authority.path), timeout=patience(script))
    assert outcome.status == status
    assert words in outcome.sentence


def test_a_name_that_does_not_resolve() -> None:
    """10, with the name in the sentence."""
    outcome = examine(f"wss://esxi1.invalid{TARGET}")
    assert outcome.status == 10
    assert "the name esxi1.invalid does not resolve" in outcome.sentence


def test_a_resolver_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's resolver has no deadline; the doctor has."""
    unblocked = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: unblocked.wait(20))
    outcome = examine(f"wss://esxi1.example{TARGET}", timeout=SHORT)
    unblocked.set()
    assert outcome.status == 10
    assert f"did not resolve within {SHORT:g} s" in outcome.sentence


def test_nothing_listens() -> None:
    """11: refused, at which address and port."""
    port = free_port()
    outcome = examine(http(port))
    assert outcome.status == 11
    assert f"127.0.0.1 refused the connection: no service listens on port {port}" in outcome.sentence
    assert outcome.step("tcp")["facts"]["attempts"] == ["127.0.0.1 refused"]


def test_a_black_hole() -> None:
    """11: a listener whose backlog is full drops the SYN, as a firewall does."""
    with black_hole() as port:
        outcome = examine(https(port), timeout=SHORT)
    assert outcome.status == 11
    assert f"timed out: no answer within {SHORT:g} s" in outcome.sentence
    assert "firewall" in outcome.sentence


def test_an_unreachable_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """11: no route is another thing than no answer."""
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: errno.ENETUNREACH)
    outcome = examine(f"ws://192.0.2.1{TARGET}")
    assert outcome.status == 11
    assert "192.0.2.1 is unreachable from this machine" in outcome.sentence


def says_400(connection: Connection) -> None:
    connection.stream.recv(1)
    connection.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    connection.close()


@pytest.mark.parametrize("to_tls", [says_400, mute, leave])
def test_plain_http_on_the_tls_port(upstream: StartUpstream, to_tls: Script) -> None:
    """The host answers the ClientHello in HTTP, waits or leaves. A plain request shows the reason."""

    def script(connection: Connection) -> None:
        (refuse("404 Not Found") if connection.number else to_tls)(connection)

    outcome = examine(https(upstream(script).port), timeout=SHORT if to_tls is mute else LONG)
    assert outcome.status == 12
    assert "speaks plain HTTP, not TLS: use ws://" in outcome.sentence


def test_another_service_on_the_tls_port(upstream: StartUpstream) -> None:
    """12, with the greeting that it sent."""

    def greet(connection: Connection) -> None:
        connection.send_raw(b"220 VMware Authentication Daemon Version 1.10\r\n")
        mute(connection)

    outcome = examine(https(upstream(greet).port), timeout=LONG)
    assert outcome.status == 12
    assert "speaks no TLS: it began with '220 VMware Authentication Daemon" in outcome.sentence


def test_silence_on_the_tls_port(upstream: StartUpstream) -> None:
    """12: the connection is taken, and that is all."""
    outcome = examine(https(upstream(mute).port), timeout=SHORT)
    assert outcome.status == 12
    assert f"did not answer the TLS handshake within {SHORT:g} s" in outcome.sentence


def test_tls_on_the_plain_port(upstream: StartUpstream, good: Certificate) -> None:
    """The status is 13, because the answer is a TLS alert."""
    outcome = examine(http(upstream(silent, good).port), timeout=LONG)
    assert outcome.status == 13
    assert "expects TLS, and the URL has ws://: use wss://" in outcome.sentence


def refused_certificate(
    upstream: StartUpstream, certificate: Certificate | Odd, *options: str, host: str = "127.0.0.1"
) -> str:
    """Return the sentence on this certificate, and check that the request was not sent."""
    server = upstream(silent, certificate)
    outcome = examine(https(server.port, host), *options, timeout=LONG)
    assert outcome.status == 12
    assert [connection.request for connection in server.connections] == [None] * len(server.connections)
    assert SECRET.encode() not in b"".join(bytes(one.received) for one in server.connections)
    facts = outcome.step("tls")["facts"]
    assert facts["pin"] == [f"sha256:{certificate.sha256}", f"sha1:{certificate.sha1}"]
    assert facts["request_sent"] is False
    assert "the request was not sent, because its path is secret" in outcome.sentence
    return str(outcome.sentence)


def test_an_expired_certificate(upstream: StartUpstream, authority: Authority) -> None:
    """12, with the day, and the pin that would do."""
    late = authority.server("late", not_before=-30 * DAY, not_after=-DAY)
    sentence = refused_certificate(upstream, late, "--ca", str(authority.path))
    assert "has expired on 20" in sentence and "Renew it" in sentence
    assert f"--pin sha256:{late.sha256}" in sentence


def test_a_certificate_of_tomorrow(upstream: StartUpstream, authority: Authority) -> None:
    """12: one of the two clocks is wrong."""
    early = authority.server("early", not_before=DAY)
    sentence = refused_certificate(upstream, early, "--ca", str(authority.path))
    assert "is not valid before" in sentence and "clocks" in sentence


def test_a_self_signed_certificate(upstream: StartUpstream, tmp_path: Path) -> None:
    """12: as an ESXi host has it out of the box."""
    assert "is signed by itself" in refused_certificate(upstream, self_signed(tmp_path))


def test_an_unknown_authority(upstream: StartUpstream, good: Certificate, tmp_path: Path) -> None:
    """12, with its name; with --ca it is that file that does not know it."""
    sentence = refused_certificate(upstream, good)
    assert "is signed by an authority that this machine does not know (CN=esxiproxy test CA)" in sentence
    other = Authority(tmp_path, "another CA")
    assert f"that is not in {other.path}" in refused_certificate(upstream, good, "--ca", str(other.path))


def test_a_wrong_name(upstream: StartUpstream, authority: Authority) -> None:
    """12, with the names that the certificate has."""
    other = authority.server("other", names=["esxi7.example"], addresses=[])
    sentence = refused_certificate(upstream, other, "--ca", str(authority.path), host="localhost")
    assert "is for another name: it names esxi7.example, not localhost" in sentence


def test_an_address_as_a_dns_name(upstream: StartUpstream, authority: Authority) -> None:
    """12: an address counts only as an IP address of the certificate."""
    other = authority.server("named", names=["127.0.0.1"], addresses=[])
    sentence = refused_certificate(upstream, other, "--ca", str(authority.path))
    assert "it names 127.0.0.1 (as a DNS name), not 127.0.0.1. Renew it with the address as an IP" in sentence


def test_a_certificate_that_cannot_be_read(upstream: StartUpstream, authority: Authority) -> None:
    """12 with both pins to take, and with the pin all is well."""
    leaf = odd_leaf(authority, "version 4")
    sentence = refused_certificate(upstream, leaf, "--ca", str(authority.path))
    assert "has names that cannot be read. Replace it, or if it is the right host, pin it" in sentence
    server = upstream(opened(leave), leaf)
    outcome = examine(https(server.port), "--pin", f"sha256:{leaf.sha256}", timeout=LONG)
    assert outcome.status == 15 and outcome.step("tls")["ok"]


def test_a_wrong_pin(upstream: StartUpstream, good: Certificate) -> None:
    """12, with both pins."""
    wrong = "sha256:" + ":".join(["AB"] * 32)
    sentence = refused_certificate(upstream, good, "--pin", wrong)
    assert "the pin is wrong" in sentence
    assert f"The pin is {wrong}, the certificate's is sha256:{good.sha256}" in sentence


def test_everything_that_is_wrong_with_a_certificate(upstream: StartUpstream, tmp_path: Path) -> None:
    """One sentence names all problems."""
    bad = self_signed(tmp_path, names=["esxi7.example"], addresses=[], not_before=-9 * DAY, not_after=-DAY)
    sentence = refused_certificate(upstream, bad)
    for words in ("has expired on", "is signed by itself", "is for another name"):
        assert words in sentence


def old_host(
    upstream: StartUpstream, certificate: Certificate, version: str, ciphers: str
) -> ScriptedUpstream:
    server = upstream(refuse("403 Forbidden"), certificate)
    assert server.tls is not None
    server.tls.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        server.tls.minimum_version = server.tls.maximum_version = ssl.TLSVersion[version]
    return server


@pytest.mark.parametrize(
    ("version", "ciphers", "seen"),
    [
        ("TLSv1", "AES128-SHA", "TLSv1 only, with AES128-SHA"),
        ("TLSv1_1", "ECDHE-RSA-AES128-SHA", "TLSv1.1 only, with ECDHE-RSA-AES128-SHA"),
        ("TLSv1_2", "AES128-GCM-SHA256", "TLSv1.2 only, with AES128-GCM-SHA256"),
    ],
)
def test_an_old_tls(
    upstream: StartUpstream, authority: Authority, version: str, ciphers: str, seen: str
) -> None:
    """12, with the key of the configuration that lets it in; and with it all is well as far as TLS goes."""
    server = old_host(upstream, authority.server("aged", key="rsa"), version, ciphers)
    outcome = examine(https(server.port), "--ca", str(authority.path), timeout=LONG)
    assert outcome.status == 12
    assert f"speaks {seen}. By default the proxy speaks TLS 1.2 and 1.3 with ECDHE" in outcome.sentence
    assert "write tls_profile = old in its [upstream] section (here --tls-profile old)" in outcome.sentence
    options = ("--ca", str(authority.path), "--tls-profile", "old")
    outcome = examine(https(server.port), *options, timeout=LONG)
    assert outcome.status == 13 and outcome.step("tls")["ok"]
    assert seen.replace(" only,", "") in outcome.step("tls")["sentence"]


def test_a_client_certificate_is_wanted(
    upstream: StartUpstream, authority: Authority, good: Certificate
) -> None:
    """TLS 1.3 says so only after the handshake, and the answer is an alert."""
    server = upstream(silent, good)
    assert server.tls is not None
    server.tls.load_verify_locations(authority.path)
    server.tls.verify_mode = ssl.CERT_REQUIRED
    outcome = examine(https(server.port), "--ca", str(authority.path), timeout=LONG)
    assert outcome.status in (12, 13)
    assert "certificate required" in outcome.sentence


def test_a_body_and_fields_without_secrets(upstream: StartUpstream) -> None:
    """The answer has the ticket, a cookie and terminal commands, and none of them is printed."""
    page = f"\x1b[2Jno ticket {SECRET} here".encode()
    fields = [("Set-Cookie", "vmware_soap_session=abcdef"), ("X-Seen", SECRET)]
    outcome = examine(http(upstream(refuse("403 Forbidden", page, fields)).port))
    facts = outcome.step("handshake")["facts"]
    assert facts["body"] == "\\x1b[2Jno ticket *** here"
    assert "Set-Cookie: ***" in facts["fields"] and "X-Seen: ***" in facts["fields"]
