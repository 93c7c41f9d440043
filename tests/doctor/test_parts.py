"""The doctor's parts without a network: addresses, pins, what is hidden, frames."""

from __future__ import annotations

import pytest

from esxiproxy.core.thumbprint import Pin
from esxiproxy.doctor.certificate import read_certificate
from esxiproxy.doctor.frames import Frame, FrameReader
from esxiproxy.doctor.sanitize import Sanitizer
from esxiproxy.doctor.trust import BadPin, CertificateProblem, parse_pin, problems_of
from esxiproxy.doctor.url import BadUrl, ConsoleUrl
from tests.support.websocket import frame


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ws://esxi1/ticket/1", (False, "esxi1", 80, b"/ticket/1")),
        ("WSS://esxi1", (True, "esxi1", 443, b"/")),
        ("wss://esxi1:9443?a=b", (True, "esxi1", 9443, b"/?a=b")),
        ("wss://[2001:db8::1]/x", (True, "2001:db8::1", 443, b"/x")),
        ("wss://[fe80::1%25eth0]:1/x", (True, "fe80::1%eth0", 1, b"/x")),
        ("wss://bücher.example/\n", (True, "xn--bcher-kva.example", 443, b"/")),
    ],
)
def test_an_address(text: str, expected: tuple[object, ...]) -> None:
    """Scheme, host, port with its default, and the target as it stands."""
    url = ConsoleUrl.parse(text)
    assert (url.secure, url.host, url.port, url.target) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "esxi1/ticket/topsecret",
        "https://esxi1/ticket/topsecret",
        "wss:///ticket/topsecret",
        "wss://me:topsecret@esxi1/",
        "wss://esxi1:0/topsecret",
        "wss://esxi1:65536/topsecret",
        "wss://::1/topsecret",
        "wss://[::1/topsecret",
        "wss://[esxi1]/topsecret",
        "wss://esxi1/topsecret#there",
        "wss://esxi1/top secret",
        "wss://esxi1/topsecretö",
        "wss://esxi 1/topsecret",
        "wss://esxi1/" + "topsecret" * 1000,
    ],
)
def test_no_address(text: str) -> None:
    """The text is refused, and the refusal does not repeat it."""
    with pytest.raises(BadUrl) as refused:
        ConsoleUrl.parse(text)
    assert "topsecret" not in str(refused.value)


def test_a_url_shows_no_ticket() -> None:
    """Neither the text of a URL nor a traceback has the ticket."""
    url = ConsoleUrl.parse("wss://esxi1/ticket/topsecret?x=1")
    assert str(url) == "wss://esxi1/ticket/***?x=1" and "topsecret" not in repr(url)
    assert url.has_ticket and not ConsoleUrl.parse("wss://esxi1/console").has_ticket


@pytest.mark.parametrize(
    "target",
    [
        "/ticket/topsecret",
        "/tick%65t/topsecret",
        "/x?token=topsecret&a=b",
        "/ticket/top%73ecret",
    ],
)
def test_a_ticket_that_a_host_repeats_is_hidden(target: str) -> None:
    """The bare secret too, decoded or not, with everything else left."""
    sanitizer = Sanitizer(ConsoleUrl.parse(f"ws://esxi1{target}"))
    secret = target.rpartition("/")[2].removeprefix("x?token=").partition("&")[0]
    shown = sanitizer.text(f"the ticket {secret} or topsecret is unknown")
    assert "secret" not in shown and shown.startswith("the ticket ***")


def test_a_ticket_of_vcloud_is_hidden() -> None:
    """Such a ticket is recognised by its first letters at any place."""
    sanitizer = Sanitizer(ConsoleUrl.parse("ws://esxi1/a/cst-topsecret--tp-1"))
    assert sanitizer.text("no cst-topsecret--tp-1 and no cst-other") == "no *** and no cst-***"


def test_an_ordinary_text_stays() -> None:
    """A text without a secret is not changed, except for escaped control characters."""
    sanitizer = Sanitizer(ConsoleUrl.parse("ws://esxi1/console/one"))
    assert sanitizer.text("console one\x1b[2J“ü”") == "console one\\x1b[2J“ü”"
    assert sanitizer.fields(((b"Location", b"/login?token=abc"), (b"Cookie", b"a=b"))) == [
        "Location: /login?***",
        "Cookie: ***",
    ]


@pytest.mark.parametrize("text", ["sha256:" + "ab" * 32, "SHA-256:" + ":".join(["AB"] * 32), "AB" * 32])
def test_a_pin(text: str) -> None:
    """Pins are accepted as vSphere, openssl and the doctor write them."""
    assert parse_pin(text) == Pin("sha256", "ab" * 32)


@pytest.mark.parametrize(
    "text", ["", "sha256:abc", "sha1:" + "ab" * 32, "md5:" + "ab" * 16, "sha256:" + "zz" * 32]
)
def test_no_pin(text: str) -> None:
    """The error names a wrong length or a wrong letter."""
    with pytest.raises(BadPin):
        parse_pin(text)


def test_problems() -> None:
    """Each once, the dates first; an authority's date is the authority's."""
    assert problems_of([(20, 0), (21, 0), (10, 0)]) == (
        CertificateProblem.EXPIRED,
        CertificateProblem.UNKNOWN_AUTHORITY,
    )
    assert problems_of([(10, 1)]) == (CertificateProblem.AUTHORITY_EXPIRED,)
    assert problems_of([(999, 0)]) == (CertificateProblem.OTHER,)


def test_a_certificate_that_cannot_be_read() -> None:
    """The thumbprints of such a certificate are known."""
    facts = read_certificate(b"no certificate")
    assert facts.subject == "cannot be read" and facts.not_after is None
    assert [pin.algorithm for pin in facts.pins] == ["sha256", "sha1"]


def test_frames_byte_by_byte() -> None:
    """Frames are returned in their order, with the beginning of the payload only."""
    stream = frame(2, bytes(300)) + frame(9, b"a") + frame(1, bytes(70_000)) + frame(8, b"\x03\xe8bye")
    reader, seen = FrameReader(), []
    for octet in stream:
        seen += reader.feed(bytes([octet]))
    assert [(one.opcode, one.length, len(one.start)) for one in seen] == [
        (2, 300, 125),
        (9, 1, 1),
        (1, 70_000, 125),
        (8, 5, 5),
    ]
    assert seen[-1].close == (1000, "bye")
    assert Frame(8, True, 0, b"").close == (1005, "")


@pytest.mark.parametrize(
    ("target", "secrets"),
    [
        ("/443;cst-QUJD/REVG+SElK=--tp-AA:BB:CC--", ["QUJD/REVG+SElK=", "QUJD", "REVG", "SElK"]),
        ("/nfc/52c2aabb/disk-0.vmdk", ["52c2aabb"]),
        ("/ticket/one/second", ["second"]),
        ("/ui?path=%3Ftoken%3Dtopsecret", ["topsecret"]),
        ("/ui?sid=topsecret", ["topsecret"]),
    ],
)
def test_no_part_of_a_ticket_is_shown_again(target, secrets):
    """A host that repeats a ticket, or a piece of it, does not get it onto the screen."""
    url = ConsoleUrl.parse(f"wss://esxi1{target}")
    sanitizer = Sanitizer(url)
    for secret in secrets:
        assert secret not in str(url) and secret not in sanitizer.target
        assert secret not in sanitizer.text(f"no such ticket: {secret}, and {target}")
        shown = sanitizer.fields(
            ((b"Location", f"https://esxi1{target}".encode()), (b"X-Y", secret.encode()))
        )
        assert secret not in " ".join(shown)


def test_fields_that_carry_secrets_are_shown_without_their_value():
    sanitizer = Sanitizer(ConsoleUrl.parse("wss://esxi1/ui"))
    names = ("Set-Cookie", "X-Auth-Token", "X-Session-Id", "X-API-Key", "X-VMWARE-VCLOUD-ACCESS-TOKEN")
    assert sanitizer.fields(tuple((name.encode(), b"topsecret") for name in names)) == [
        f"{name}: ***" for name in names
    ]
    shown = ((b"WWW-Authenticate", b'Basic realm="x"'), (b"Sec-WebSocket-Key", b"abc"))
    assert sanitizer.fields(shown) == ['WWW-Authenticate: Basic realm="x"', "Sec-WebSocket-Key: abc"]
