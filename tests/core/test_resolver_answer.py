"""Answers of a service about a token, valid and refused ones."""

import json

import pytest

from esxiproxy.core.resolver_answer import MAX_ANSWER, ResolvedHost, parse_resolver_answer
from esxiproxy.core.thumbprint import Pin

LEAST = {"host": "esx1", "port": 443}
A, B = "a" * 64, "b" * 40


def read(**more):
    return parse_resolver_answer(json.dumps({**LEAST, **more}).encode())


GOOD = [
    ({}, ResolvedHost("esx1", 443)),
    ({"path": "/ticket/x?y=%2f"}, ResolvedHost("esx1", 443, b"/ticket/x?y=%2f")),
    ({"host": "ESX1.Lab.", "port": 1}, ResolvedHost("esx1.lab", 1)),
    ({"host": "2001:db8::1"}, ResolvedHost("2001:db8::1", 443)),
    (
        {"pins": [f"sha256:{A}", f"SHA1:{B.upper()}"]},
        ResolvedHost("esx1", 443, pins=(Pin("sha256", A), Pin("sha1", B))),
    ),
    (
        {"principal": "é b@c", "expires": 1.5e9},
        ResolvedHost("esx1", 443, principal="é b@c", expires=1500000000.0),
    ),
    ({"expires": 0}, ResolvedHost("esx1", 443, expires=0.0)),
]


@pytest.mark.parametrize(("more", "expected"), GOOD)
def test_an_answer_is_read(more, expected):
    assert read(**more) == expected


BAD = [
    *(
        {"host": value}
        for value in (None, 1, ["esx1"], "", "a b", "127.1", "0x7f.1", "2130706433", "0177.0.0.1")
    ),
    *({"host": value} for value in ("user@esx1", "esx1:443", "[::1]", "fe80::1%eth0", "::ffff:127.0.0.1")),
    *({"host": value} for value in ("esx1/x", "esx1%00", "esx1\0", "é", "https://esx1", "a..b", "esx1\n")),
    *({"port": value} for value in (None, "443", 0, -1, 65536, 443.0, True, [443], 10**30)),
    *(
        {"path": value}
        for value in (None, "", "x", 1, "/a b", "/é", "/a\r\nb", "/a#b", "/" * 9000, "http://x/")
    ),
    *({"pins": value} for value in (None, "sha256:" + A, [], [1], ["sha256:aa"], [A], ["md5:" + A], [None])),
    *({"pins": value} for value in ([f"sha1:{B}"] * 17, {}, [[f"sha1:{B}"]])),
    *({"principal": value} for value in (None, "", 1, "a\nb", "a\0", "a" * 257, ["a"])),
    *({"expires": value} for value in (None, "1", True, [1], 10**400)),
    *({name: 1} for name in ("pin", "Host", "verify", "scheme", "url")),
]


@pytest.mark.parametrize("more", BAD, ids=lambda more: repr(more)[:40])
def test_a_value_of_another_kind_is_refused(more):
    with pytest.raises(ValueError, match=r"\w") as caught:
        read(**more)
    text = str(caught.value)
    assert len(text) < 200 and "Traceback" not in text and "user@" not in text


BODIES = {
    "empty": b"",
    "list": b"[]",
    "text": b'"esx1:443"',
    "plain": b"esx1:443",
    "no host": b'{"port": 443}',
    "no port": b'{"host": "esx1"}',
    "twice": b'{"host": "esx1", "host": "esx2", "port": 443}',
    "nan": b'{"host": "esx1", "port": 443, "expires": NaN}',
    "infinity": b'{"host": "esx1", "port": 443, "expires": 1e999}',
    "utf-16": json.dumps(LEAST).encode("utf-16"),
    "latin-1": b'{"host": "esx1", "port": 443, "principal": "\xe9"}',
    "brackets": b"[" * 60_000,
    "nested": b'{"a":' * 10_000,
    "digits": b'{"host": "esx1", "port": ' + b"9" * 60_000 + b"}",
    "large": json.dumps(LEAST).encode() + b" " * MAX_ANSWER,
    "behind": json.dumps(LEAST).encode() + b"{}",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_of_another_kind_is_refused(body):
    with pytest.raises(ValueError, match=r"^(it (is|has)|its expires is) "):
        parse_resolver_answer(body)
