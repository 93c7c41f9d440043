"""Whose word is taken for where a request comes from."""

from dataclasses import fields
from ipaddress import ip_network

import pytest

from esxiproxy.core.http.fields import origin_field
from esxiproxy.core.http.forwarded import TrustedProxies, forwarded_client
from esxiproxy.core.http.head import parse
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Upstream

TRUST = TrustedProxies((ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")))
PROXY = PeerAddress("10.0.0.1", 5000)
STRANGER = PeerAddress("198.51.100.7", 40000)


def origin(*fields, peer=PROXY, trust=TRUST, secure=False):
    lines = (b"GET / HTTP/1.1", b"Host: h", *fields)
    return forwarded_client(parse(b"\r\n".join(lines) + b"\r\n\r\n"), peer, secure, trust)


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
        PeerAddress("::ffff:10.0.0.1", 1),
        "198.51.100.7",
        ("198.51.100.7", "10.0.0.1"),
    ),
    "IPv4 in IPv6, in hexadecimal": (
        (b"X-Forwarded-For: [::ffff:c633:6407]:80",),
        PeerAddress("::FFFF:a00:1", 1),
        "198.51.100.7",
        ("198.51.100.7", "10.0.0.1"),
    ),
    "unknown": ((b"X-Forwarded-For: 1.2.3.4, unknown",), PROXY, "10.0.0.1", ("10.0.0.1",)),
    "nonsense": ((b"X-Forwarded-For: 1.2.3.4, <script>",), PROXY, "10.0.0.1", ("10.0.0.1",)),
    "an empty element": ((b"X-Forwarded-For: 1.2.3.4,",), PROXY, "1.2.3.4", ("1.2.3.4", "10.0.0.1")),
    **{
        f"{said!r}": ((said,), PROXY, "1.2.3.4", ("1.2.3.4", "10.0.0.1"))
        for said in (
            b"X-Forwarded-For: , 1.2.3.4, ,",
            b"X-Forwarded-For: 5.6.7.8,,1.2.3.4",
            b"X-Forwarded-For: 1.2.3.4" + b"," * 100,
            b"X-Forwarded-For: 1.2.3.4:_p",
            b"X-Forwarded-For: 1.2.3.4:99999",
            b'X-Forwarded-For: "1.2.3.4:80"',
            b'X-Forwarded-For: 5.6.7.8, "1.2.3.4"',
            b"Forwarded: for=5.6.7.8,,for=1.2.3.4,",
            b'Forwarded: for="1.2.3.4:_p"',
            b'Forwarded: for="1.2.3.4:_a.b-c_d"',
            b'Forwarded: for=5.6.7.8, x="a, for=9.9.9.9";for=1.2.3.4',
            b'Forwarded: for=1.2.3.4;x="a;for=9.9.9.9"',
            b'Forwarded: for=1.2.3.4;by="\\", for=9.9.9.9"',
            b'Forwarded: for="\\1.2.3.4"',
            b'Forwarded: x="a, for=5.6.7.8, for=1.2.3.4',
            b'Forwarded: for=5.6.7.8;x="\\", for="1.2.3.4"',
            b"Forwarded: ; for=5.6.7.8, FOR=1.2.3.4 ; proto=http",
        )
    },
    "an obfuscated port of IPv6": (
        (b'Forwarded: for="[2001:db9::7]:_p"',),
        PROXY,
        "2001:db9::7",
        ("2001:db9::7", "10.0.0.1"),
    ),
    "empty elements only": ((b"X-Forwarded-For: ,, ,",), PROXY, "10.0.0.1", ("10.0.0.1",)),
    "a name with a port": ((b'Forwarded: for="_hidden:_p"',), PROXY, "10.0.0.1", ("10.0.0.1",)),
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
def test_the_chain_is_walked_from_the_right_while_proxies_are_trusted(fields, peer, client, chain):
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
        ((b"X-Forwarded-Host: a, b, ,",), PROXY, False, b"b"),
        ((b'Forwarded: for=1.2.3.4;host="x:81"',), PROXY, False, b"x:81"),
        ((b'Forwarded: for="1.2.3.4, 5";proto="https"',), PROXY, True, b"h"),
        ((b"X-Forwarded-Port: 8443",), STRANGER, False, b"h"),
        ((b"X-Forwarded-Port: 8443",), PROXY, False, b"h"),
        ((b"X-Forwarded-Port: 8443", b"X-Forwarded-Host: x"), PROXY, False, b"x:8443"),
        ((b"X-Forwarded-Port: 80", b"X-Forwarded-Host: x", b"X-Forwarded-Proto: https"), PROXY, True, b"x"),
        ((b"X-Forwarded-Port: 443", b"X-Forwarded-Host: x"), PROXY, False, b"x"),
        ((b"X-Forwarded-Port: 80", b"X-Forwarded-Proto: https"), PROXY, True, b"h"),
        ((b"X-Forwarded-Port: 80",), PROXY, False, b"h"),
        ((b"X-Forwarded-Port: 443", b"X-Forwarded-Proto: https"), PROXY, True, b"h"),
        ((b"X-Forwarded-Port: 443, 8443", b"X-Forwarded-Host: h"), PROXY, False, b"h:8443"),
        ((b"X-Forwarded-Port: 8443", b"X-Forwarded-Host: x:81"), PROXY, False, b"x:81"),
        (
            (b"X-Forwarded-Port: 8443", b"X-Forwarded-Host: [2001:db8::1]"),
            PROXY,
            False,
            b"[2001:db8::1]:8443",
        ),
        ((b"X-Forwarded-Port: 8443", b"X-Forwarded-Host: [2001:db8::1]:1"), PROXY, False, b"[2001:db8::1]:1"),
        *(
            ((b"X-Forwarded-Port: " + bad,), PROXY, False, b"h")
            for bad in (b"0", b"65536", b"x", b"-1", b"1 2")
        ),
        ((b"X-Forwarded-Port: 8443", b"Forwarded: for=1.2.3.4"), PROXY, False, b"h"),
        ((b"Forwarded: for=1.2.3.4;proto=https;host=x",), PROXY, True, b"x"),
        ((b"Forwarded: proto=https, for=1.2.3.4",), PROXY, False, b"h"),
        ((b"Forwarded: proto=https", b"X-Forwarded-For: 1.2.3.4"), PROXY, False, b"h"),
    ],
)
def test_a_trusted_proxy_says_how_its_client_came(fields, peer, secure, host):
    found = origin(*fields, peer=peer)
    assert (found.secure, found.host) == (secure, host)


@pytest.mark.parametrize(
    ("fields", "host", "other"),
    [
        ((b"X-Forwarded-Port: 8443",), b"h", b"h:8443"),
        ((b"X-Forwarded-Port: 8443", b"X-Forwarded-Host: x"), b"x:8443", b"x"),
        ((b"X-Forwarded-Port: 8443", b"X-Forwarded-Host: x:81"), b"x:81", None),
        ((b"X-Forwarded-Port: 80", b"X-Forwarded-Proto: https"), b"h", None),
        ((), b"h", None),
    ],
)
def test_the_clients_own_origin_may_have_the_port_or_not(fields, host, other):
    found = origin(*fields)
    assert (found.host, found.other_host) == (host, other)


@pytest.mark.parametrize(
    ("sent", "ours"),
    [
        (b"https://h", True),
        (b"https://h:8443", True),
        (b"https://H:443", True),
        (b"https://h:8444", False),
        (b"http://h:8443", False),
    ],
)
def test_an_origin_with_or_without_the_forwarded_port_becomes_the_upstreams(sent, ours):
    head = parse(b"GET / HTTP/1.1\r\nHost: h\r\nOrigin: " + sent + b"\r\n\r\n")
    request = Request("s", "l", PROXY, True, head, public_host=b"h", other_host=b"h:8443")
    upstream = Upstream("u", "esxi1.lan", 443, secure=True)
    assert origin_field(request, upstream) == (b"https://esxi1.lan" if ours else sent)


def test_a_unix_socket_is_trusted_by_name():
    unix = PeerAddress("unix", 0)
    assert origin(b"X-Forwarded-For: 1.2.3.4", peer=unix).client == unix
    assert (
        origin(b"X-Forwarded-For: 1.2.3.4", peer=unix, trust=TrustedProxies(unix=True)).client.host
        == "1.2.3.4"
    )


def test_a_network_of_mapped_addresses_is_one_of_ipv4():
    trust = TrustedProxies((ip_network("::ffff:10.0.0.0/104"),))
    assert trust.contains("10.1.2.3") and trust.contains("::ffff:10.1.2.3") and not trust.contains("11.0.0.1")
    assert not TrustedProxies((ip_network("::/0"),)).contains("10.1.2.3")


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:c000:207", "192.0.2.7"),
        ("0:0:0:0:0:ffff:c000:0207", "192.0.2.7"),
        ("2001:db8::ffff", "2001:db8::ffff"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("::ffff", "::ffff"),
        ("unix", "unix"),
    ],
)
def test_an_ipv4_client_is_an_ipv4_client(host, plain):
    assert PeerAddress(host, 5).host == plain
    assert str(PeerAddress(host, 5)) in (f"{plain}:5", f"[{plain}]:5", "unix")


def test_a_head_shows_no_ticket_and_no_field():
    head = parse(b"GET /ticket/SECRET HTTP/1.1\r\nHost: h\r\nCookie: a=SECRET\r\n\r\n")
    assert repr(head) == "<RequestHead GET /ticket/***, 2 fields>"


def test_a_request_with_another_head_has_all_other_parts():
    head, other = parse(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"), parse(b"GET /b HTTP/1.1\r\nHost: b\r\n\r\n")
    parts = {field.name: object() for field in fields(Request)} | {"head": head}
    request = Request(**parts).with_head(other)
    assert {name: getattr(request, name) for name in parts} == parts | {"head": other}
