"""Every host of a configuration is checked as the proxy would connect to it: the verdict and the sentence."""

from __future__ import annotations

import socket
import ssl
import threading
import warnings
from collections.abc import Callable

import pytest

from tests.doctor.configured_hosts import DAY, OTHER_PIN, Places, by_ca, examine, mute, wss
from tests.support.certificates import self_signed
from tests.support.config import ini, listener, upstream
from tests.support.examined_config import examine_config
from tests.support.programs import free_port
from tests.support.scripts import answer, drops_before_answer, refuse, silent
from tests.support.websocket_peers import Connection


def old_tls(places: Places) -> str:
    server = places.start(mute, places.good)
    assert server.tls is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        server.tls.minimum_version = server.tls.maximum_version = ssl.TLSVersion.TLSv1_1
    server.tls.set_ciphers("ALL:@SECLEVEL=0")
    return by_ca(places, server.port)


def wants_client_certificate(places: Places) -> str:
    server = places.start(refuse("200 OK"), places.good)
    assert server.tls is not None
    server.tls.verify_mode = ssl.CERT_REQUIRED
    server.tls.load_verify_locations(places.authority.path)
    return by_ca(places, server.port)


def expiring(places: Places, days: float, **keys: object) -> str:
    leaf = places.leaf(not_before=-90 * DAY, not_after=days * DAY)
    return by_ca(places, places.server(certificate=leaf), **keys)


def pinned(places: Places) -> str:
    leaf = places.leaf(not_after=90 * DAY)
    return upstream(places.server(certificate=leaf), pin=leaf)


def pinned_and_expired(places: Places) -> str:
    leaf = places.leaf(not_before=-90 * DAY, not_after=-5 * DAY)
    return upstream(places.server(certificate=leaf), pin=leaf)


Case = tuple[str, Callable[[Places], str], str, str, range | None]
CASES: list[Case] = [
    (
        "plain HTTP",
        lambda p: upstream(p.server()),
        "ok",
        "answers plain HTTP, without TLS",
        None,
    ),
    (
        "a verified chain",
        lambda p: by_ca(p, p.server(certificate=p.leaf(not_after=90 * DAY))),
        "ok",
        "TLSv1.3, chain and name verified",
        range(89, 91),
    ),
    (
        "a pinned certificate",
        pinned,
        "ok",
        "TLSv1.3, the pinned certificate",
        range(89, 91),
    ),
    (
        "verify = none",
        lambda p: upstream(wss(p.server(certificate=p.leaf(not_after=90 * DAY))), verify="none"),
        "ok",
        "not verified (verify = none)",
        range(89, 91),
    ),
    ("refused", lambda p: upstream(free_port()), "error", "127.0.0.1 refused the connection", None),
    ("filtered", lambda p: upstream(p.black_hole), "error", "timed out: no answer within 0.5 s", None),
    (
        "a name without an address",
        lambda p: upstream("wss://esxi1.invalid"),
        "error",
        "the name esxi1.invalid does not resolve",
        None,
    ),
    (
        "another authority",
        lambda p: by_ca(p, p.server(certificate=self_signed(p.folder, not_after=90 * DAY))),
        "error",
        "is self-signed: if it is the right host, pin it with verify = pin, pin = sha256:",
        range(89, 91),
    ),
    (
        "another name",
        lambda p: by_ca(p, p.server(certificate=p.leaf(names=["esxi7.example"], addresses=[]))),
        "error",
        "is for esxi7.example, not for 127.0.0.1",
        range(29, 31),
    ),
    ("expired", lambda p: expiring(p, -2), "error", "expired on 20", range(-3, -1)),
    ("expires in 6 days", lambda p: expiring(p, 6.5), "error", "expires in 6 days, on 20", range(6, 7)),
    ("expires in 8 days", lambda p: expiring(p, 8.5), "warning", "expires in 8 days, on 20", range(8, 9)),
    ("expires in 31 days", lambda p: expiring(p, 31.5), "ok", "chain and name verified", range(31, 32)),
    (
        "pinned and expired",
        pinned_and_expired,
        "warning",
        "The pin does not depend on it",
        range(-6, -4),
    ),
    (
        "another pin",
        lambda p: upstream(wss(p.server(certificate=p.good)), verify="pin", more=f"pin = {OTHER_PIN}"),
        "error",
        "but the configuration pins sha256:AB:AB",
        range(28, 31),
    ),
    ("TLS 1.1", old_tls, "error", "has no TLS 1.2 or later: update it, or write tls_profile = old", None),
    (
        "a client certificate is required",
        wants_client_certificate,
        "error",
        "it may require a client certificate",
        range(28, 31),
    ),
    (
        "no TLS",
        lambda p: by_ca(p, p.server(answer(b"HTTP/1.1 400 Bad Request\r\n\r\n"), None)),
        "error",
        "did not complete the TLS handshake within 0.5 s",
        None,
    ),
    (
        "another service in place of TLS",
        lambda p: by_ca(p, p.server(lambda c: c.send_raw(b"220 VMware Authentication Daemon\r\n"))),
        "error",
        "does not answer with TLS",
        None,
    ),
    (
        "closed in the handshake",
        lambda p: by_ca(p, p.server(lambda c: c.drop())),
        "error",
        "the TLS handshake",
        None,
    ),
    (
        "another service in place of HTTP",
        lambda p: upstream(p.server(answer(b"220 VMware Authentication Daemon\r\n"))),
        "error",
        "does not answer with HTTP: it began with '220 VMware Authentication Daemon'",
        None,
    ),
    (
        "no answer to a plain request",
        lambda p: upstream(p.server(silent)),
        "warning",
        "no answer to a plain request within 0.5 s",
        None,
    ),
    (
        "closed on a plain request",
        lambda p: upstream(p.server(drops_before_answer)),
        "warning",
        "closed the connection on a plain request",
        None,
    ),
    (
        "503",
        lambda p: upstream(p.server(refuse("503 Service Unavailable"))),
        "warning",
        "a plain request was answered with 503",
        None,
    ),
    (
        "a failing health check",
        lambda p: upstream(p.server(refuse("404 Not Found")), health_check="/healthz"),
        "warning",
        "the health check /healthz was answered with 404",
        None,
    ),
]


@pytest.mark.parametrize(
    ("section", "verdict", "words", "days"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_host(
    places: Places, section: Callable[[Places], str], verdict: str, words: str, days: range | None
) -> None:
    """The verdict, the sentence and the days of one upstream are right. The exit status is 1 for an error."""
    examined = examine(places.folder, section(places), timeout=0.5 if "0.5 s" in words else 5.0)
    row = examined.host
    assert (row["verdict"], row["name"], row["section"]) == (verdict, "esxi1", "upstream esxi1")
    assert words in row["finding"]
    assert row["certificate_days"] in days if days else row["certificate_days"] is None
    assert examined.status == (1 if verdict == "error" else 0)


def test_no_path_but_the_root_is_requested(places: Places) -> None:
    """The request has no ticket, and the Host field of the upstream."""
    server = places.start(refuse("200 OK"))
    examine(places.folder, upstream(server.port, host="vcenter.example"))
    request = server.connection().request
    assert request is not None
    assert (request.line, request.one("Host")) == ("GET / HTTP/1.1", "vcenter.example")


def test_no_request_is_sent_to_a_host_that_is_not_verified(places: Places) -> None:
    server = places.start(refuse("200 OK"), places.good)
    examine(places.folder, upstream(wss(server.port), verify="pin", more=f"pin = {OTHER_PIN}"))
    assert all(not connection.received for connection in server.connections)


@pytest.mark.parametrize(
    ("version", "begin"), [("v1", b"PROXY UNKNOWN\r\n"), ("v2", b"\r\n\r\n\0\r\nQUIT\n")]
)
def test_a_proxy_header_comes_first(places: Places, version: str, begin: bytes) -> None:
    """An upstream that wants the header would refuse a connection without it."""
    seen: list[bytes] = []

    def script(connection: Connection) -> None:
        seen.append(connection.recv_exactly(len(begin)))
        if version == "v2":
            connection.recv_exactly(4)
        connection.read_request()
        connection.send_head("200 OK", [("Content-Length", "0")])

    row = examine(places.folder, upstream(places.server(script), send_proxy_protocol=version)).host
    assert seen == [begin] and row["verdict"] == "ok"


# Several addresses


def test_an_address_that_fails_beside_one_that_serves_is_a_warning(places: Places) -> None:
    """Consoles open by way of the other one."""
    dead = free_port()
    urls = f"ws://127.0.0.1:{dead}, ws://127.0.0.1:{places.server()}"
    examined = examine(places.folder, upstream(urls))
    rows = {row["address"]: row for row in examined.of("host")}
    assert len(rows) == 2
    assert rows[f"127.0.0.1:{dead}"]["verdict"] == "warning"
    assert rows[f"127.0.0.1:{dead}"]["finding"].endswith(
        "Consoles open by way of another address of this host"
    )
    assert examined.status == 0


def test_all_addresses_of_a_name_are_checked(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address of a name has its own result; a name that is unknown beside it is a warning."""
    port = places.server()

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[object]:
        if host == "esxi1.example":
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
                for address in ("127.0.0.1", "127.0.0.2")
            ]
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    rows = examine(places.folder, upstream(f"ws://esxi1.example:{port}, ws://gone.example")).of("host")
    assert {(row["address"], row["verdict"]) for row in rows} == {
        (f"127.0.0.1:{port}", "ok"),
        (f"127.0.0.2:{port}", "warning"),
        ("gone.example:80", "warning"),
    }


def test_a_resolver_that_never_answers(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    unblocked = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: unblocked.wait(20))
    row = examine(places.folder, upstream("wss://esxi1.example"), timeout=0.3).host
    unblocked.set()
    assert "did not resolve within 0.3 s" in row["finding"]


def test_a_hostile_subject_is_escaped(places: Places) -> None:
    """A certificate's subject may have escape sequences for the operator's terminal."""
    evil = self_signed(places.folder, "evil", names=["evil\x1b[2J\x1b]0;owned\x07"], not_after=20 * DAY)
    port = places.server(certificate=evil)
    file = places.folder / "proxy.ini"
    file.write_text(ini(listener(), upstream(port, pin=evil)))
    table = examine_config(file, json_out=False).out
    objects = examine_config(file).out
    assert "CN=evil\\x1b[2J\\x1b]0\\;owned\\x07" in table
    assert not any(char in table + objects for char in "\x1b\x07")


def test_a_hostile_banner_is_escaped(places: Places) -> None:
    port = places.server(answer(b"\x1b[31mSSH-2.0\xff\r\n"))
    file = places.folder / "proxy.ini"
    file.write_text(ini(listener(), upstream(port)))
    table = examine_config(file, json_out=False).out
    assert "it began with '\\x1b[31mSSH-2.0\\xff'" in table and "\x1b" not in table
