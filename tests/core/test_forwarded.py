"""Whose word is taken for where a request comes from."""

from ipaddress import ip_network

import pytest

from esxiproxy.core.forwarded import Trust, origin_of
from esxiproxy.core.head import parse
from esxiproxy.core.request import Address

TRUST = Trust((ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")))
PROXY = Address("10.0.0.1", 5000)
STRANGER = Address("198.51.100.7", 40000)


def origin(*fields, peer=PROXY, trust=TRUST, secure=False):
    lines = (b"GET / HTTP/1.1", b"Host: h", *fields)
    return origin_of(parse(b"\r\n".join(lines) + b"\r\n\r\n"), peer, secure, trust)


CHAINS = {
    "nobody is trusted": ((b"X-Forwarded-For: 1.2.3.4",), STRANGER, "198.51.100.7", ("198.51.100.7",)),
    "nothing is said": ((), PROXY, "10.0.0.1", ("10.0.0.1",)),
    "one proxy": ((b"X-Forwarded-For: 198.51.100.7",), PROXY, "198.51.100.7", ("198.51.100.7", "10.0.0.1")),
    "a stranger's part is left out": (
        (b"X-Forwarded-For: 1.2.3.4, 198.51.100.7",),
        PROXY,
        "198.51.100.7",
        ("198.51.100.7", "10.0.0.1"),
    ),
    "two proxies": (
        (b"X-Forwarded-For: 1.2.3.4, 198.51.100.7, 10.0.0.2",),
        PROXY,
        "198.51.100.7",
        ("198.51.100.7", "10.0.0.2", "10.0.0.1"),
    ),
    "several fields": (
        (b"X-Forwarded-For: 1.2.3.4", b"x-forwarded-for: 198.51.100.7"),
        PROXY,
        "198.51.100.7",
        ("198.51.100.7", "10.0.0.1"),
    ),
    "proxies only": (
        (b"X-Forwarded-For: 10.0.0.3, 10.0.0.2",),
        PROXY,
        "10.0.0.3",
        ("10.0.0.3", "10.0.0.2", "10.0.0.1"),
    ),
    "a port": ((b"X-Forwarded-For: 198.51.100.7:1234",), PROXY, "198.51.100.7", ("198.51.100.7", "10.0.0.1")),
    "IPv6": ((b"X-Forwarded-For: 2001:db9::7",), PROXY, "2001:db9::7", ("2001:db9::7", "10.0.0.1")),
    "IPv6 with a port": (
        (b"X-Forwarded-For: [2001:db9::7]:1",),
        PROXY,
        "2001:db9::7",
        ("2001:db9::7", "10.0.0.1"),
    ),
    "IPv4 in IPv6": (
        (b"X-Forwarded-For: ::ffff:198.51.100.7",),
        Address("::ffff:10.0.0.1", 1),
        "198.51.100.7",
        ("198.51.100.7", "::ffff:10.0.0.1"),
    ),
    "unknown": ((b"X-Forwarded-For: 1.2.3.4, unknown",), PROXY, "10.0.0.1", ("10.0.0.1",)),
    "nonsense": ((b"X-Forwarded-For: 1.2.3.4, <script>",), PROXY, "10.0.0.1", ("10.0.0.1",)),
    "an empty element": ((b"X-Forwarded-For: 1.2.3.4,",), PROXY, "10.0.0.1", ("10.0.0.1",)),
    "300 is no octet": ((b"X-Forwarded-For: 1.2.3.300",), PROXY, "10.0.0.1", ("10.0.0.1",)),
    "Forwarded": (
        (b'Forwarded: for=1.2.3.4, for="[2001:db9::7]:80";proto=https',),
        PROXY,
        "2001:db9::7",
        ("2001:db9::7", "10.0.0.1"),
    ),
    "Forwarded for a hidden one": ((b"Forwarded: for=_hidden",), PROXY, "10.0.0.1", ("10.0.0.1",)),
    "Forwarded without for": ((b"Forwarded: proto=https",), PROXY, "10.0.0.1", ("10.0.0.1",)),
    "both": (
        (b"Forwarded: for=1.2.3.4", b"X-Forwarded-For: 198.51.100.7"),
        PROXY,
        "198.51.100.7",
        ("198.51.100.7", "10.0.0.1"),
    ),
    "no more than twenty": (
        (b"X-Forwarded-For: " + b", ".join([b"10.9.9.9"] * 50),),
        PROXY,
        "10.9.9.9",
        ("10.9.9.9",) * 20 + ("10.0.0.1",),
    ),
}


@pytest.mark.parametrize(("fields", "peer", "client", "chain"), CHAINS.values(), ids=CHAINS.keys())
def test_the_chain_is_walked_from_the_right_for_as_long_as_who_speaks_is_believed(
    fields, peer, client, chain
):
    found = origin(*fields, peer=peer)
    assert (found.client.host, found.chain) == (client, chain)


@pytest.mark.parametrize(
    ("fields", "peer", "secure", "host"),
    [
        ((b"X-Forwarded-Proto: https", b"X-Forwarded-Host: x"), STRANGER, False, b"h"),
        ((b"X-Forwarded-Proto: https", b"X-Forwarded-Host: x:81"), PROXY, True, b"x:81"),
        ((b"X-Forwarded-Proto: wss",), PROXY, True, b"h"),
        ((b"X-Forwarded-Proto: http, https",), PROXY, True, b"h"),
        ((b"X-Forwarded-Proto: gopher", b"X-Forwarded-Host: a/b"), PROXY, False, b"h"),
        ((b"X-Forwarded-Host: a, b",), PROXY, False, b"b"),
        ((b"Forwarded: for=1.2.3.4;proto=https;host=x",), PROXY, True, b"x"),
        ((b"Forwarded: proto=https, for=1.2.3.4",), PROXY, False, b"h"),
        ((b"Forwarded: proto=https", b"X-Forwarded-For: 1.2.3.4"), PROXY, False, b"h"),
    ],
)
def test_a_trusted_proxy_says_how_its_client_came(fields, peer, secure, host):
    found = origin(*fields, peer=peer)
    assert (found.secure, found.host) == (secure, host)


def test_a_unix_socket_is_trusted_by_name():
    unix = Address("unix", 0)
    assert origin(b"X-Forwarded-For: 1.2.3.4", peer=unix).client == unix
    assert origin(b"X-Forwarded-For: 1.2.3.4", peer=unix, trust=Trust(unix=True)).client.host == "1.2.3.4"
