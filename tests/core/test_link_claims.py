"""Signed links: each claim that is refused, and hosts, networks, opaque links and subprotocols."""

import pytest

from esxiproxy.core.errors import LinkInvalid
from esxiproxy.core.http.link_place import without_link
from esxiproxy.core.link import (
    new_id,
    opaque_in,
    sealed_claims,
    unsealed_claims,
)
from tests.core.link_scene import GOOD, read
from tests.support.links import (
    PIN,
    token,
)

CLAIMS = {
    "an unknown claim": {"admin": True},
    "an unknown claim in capitals": {"View": False},
    "view": {"view": True},
    "view, as a number": {"view": 1},
    "view, as a text": {"view": ""},
    "view, as an object": {"view": {}},
    "rec": {"rec": True},
    "sub empty": {"sub": ""},
    "sub with a line": {"sub": "a\nb"},
    "sub too long": {"sub": "x" * 257},
    "sub a number": {"sub": 7},
    "jti empty": {"jti": ""},
    "jti with a space": {"jti": "a b"},
    "jti too long": {"jti": "x" * 129},
    "jti a list": {"jti": ["x"]},
    "ttl 0": {"ttl": 0},
    "ttl negative": {"ttl": -1},
    "ttl a text": {"ttl": "60"},
    "ttl true": {"ttl": True},
    "ttl nan": {"ttl": float("nan")},
    "reuse negative": {"reuse": -1},
    "reuse a text": {"reuse": "60"},
    "reuse true": {"reuse": True},
    "reuse a list": {"reuse": []},
    "reuse infinite": {"reuse": float("inf")},
    "net no network": {"net": "here"},
    "net with host bits": {"net": "192.0.2.7/24"},
    "net a number": {"net": 3221225985},
    "net a list": {"net": ["192.0.2.0/24"]},
    "pin a text": {"pin": PIN},
    "pin empty": {"pin": []},
    "pin of numbers": {"pin": [7]},
    "pin without an algorithm": {"pin": ["ab" * 32]},
    "pin md5": {"pin": ["md5:" + "ab" * 16]},
    "pin of another length": {"pin": ["sha256:" + "ab" * 20]},
    "pin no hex": {"pin": ["sha256:" + "xy" * 32]},
    "so many pins": {"pin": [PIN] * 17},
    "crt no pem": {"crt": "x"},
    "crt no ascii": {"crt": "\u00e9"},
    "crt a number": {"crt": 1},
    "pin and crt": {"pin": [PIN], "crt": "x"},
    "to a text": {"to": "esxi1.example.com:443"},
    "to with an upstream": {"to": {"upstream": "u", "path": "/"}},
    "to with more": {"to": {"host": "a", "port": 1, "path": "/", "user": "x"}},
    "to without a path": {"to": {"host": "a", "port": 1}},
    "to without a port": {"to": {"host": "a", "path": "/"}},
}


@pytest.mark.parametrize("case", CLAIMS)
def test_a_claim_is_refused(case):
    with pytest.raises(LinkInvalid) as caught:
        read(**CLAIMS[case])
    assert type(caught.value) is LinkInvalid


@pytest.mark.parametrize("port", [0, -1, 65536, 443.0, "443", True, None, [443], 1e999])
def test_a_port_is_refused(port):
    with pytest.raises(LinkInvalid, match=r"to\.port"):
        read(to={"host": "a", "port": port, "path": "/"})


PATHS = [
    "",
    "ticket",
    "https://other/",
    "/a b",
    "/a\r\nHost: x",
    "/a#b",
    "/\u00e9",
    "/\0",
    7,
    None,
    ["/"],
    "*",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_refused(path):
    with pytest.raises(LinkInvalid, match=r"to\.?p?a?t?h?|path"):
        read(to={"host": "a", "port": 1, "path": path})


HOSTS = [
    *("", ".", "a..b", ".a", "a.", "esxi1.example.com.", "127.0.0.1.", "-a.example", "a-.example"),
    *(
        "127.1",
        "127.0.1",
        "0x7f.1",
        "0x7f000001",
        "0X7F.0.0.1",
        "2130706433",
        "017700000001",
        "010.0.0.1",
        "0",
    ),
    *(
        "1.2.3.4.5",
        "256.0.0.1",
        "a.1",
        "a.0x1",
        "a.0x",
        "127.0.0.0x1",
        "127.0.0.1:443",
        "[::1]",
        "[::1",
        "::1]",
    ),
    *(
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "::127.0.0.1",
        "0:0:0:0:0:0:0:1",
        "::0001",
        "fe80::1%eth0",
        "::1%1",
    ),
    *(
        "a@b",
        "user:pw@host",
        "a:443",
        "a/b",
        "a\\b",
        "a?b",
        "a#b",
        "a b",
        "a\nb",
        "a\0b",
        "%00",
        "a%00",
        "%61",
    ),
    *("\uff11\uff12\uff17.0.0.1", "\u2460.example", "ex\u00e4mple", "a\u3002b", "localhost%00.example", "*"),
    *("a" * 64, "a." * 126 + "ab", "unix:/run/x", "http://a"),
]


@pytest.mark.parametrize("host", HOSTS)
def test_an_odd_host_is_refused(host):
    with pytest.raises(LinkInvalid, match=r"to\.host"):
        read(to={"host": host, "port": 443, "path": "/"})


@pytest.mark.parametrize("host", [7, None, True, ["a"], {"a": 1}, 2130706433])
def test_a_host_is_a_text(host):
    with pytest.raises(LinkInvalid, match=r"to\.host"):
        read(to={"host": host, "port": 443, "path": "/"})


HOSTS_TAKEN = {
    "ESXi1.Example.COM": "esxi1.example.com",
    "esxi_1": "esxi_1",
    "xn--bcher-kva.example": "xn--bcher-kva.example",
    "1a.2b": "1a.2b",
    "192.0.2.7": "192.0.2.7",
    "2001:DB8::7": "2001:db8::7",
    "0x7f.example": "0x7f.example",
}


@pytest.mark.parametrize("host", HOSTS_TAKEN)
def test_a_plain_host_is_taken(host):
    assert read(to={"host": host, "port": 443, "path": "/"}).host == HOSTS_TAKEN[host]


CLIENTS = {
    ("192.0.2.0/24", "192.0.2.7"): True,
    ("192.0.2.0/24", "192.0.3.7"): False,
    ("192.0.2.7", "192.0.2.7"): True,
    ("192.0.2.0/24", "2001:db8::1"): False,
    ("2001:db8::/32", "2001:db8::1"): True,
    ("fe80::/10", "fe80::1%eth0"): True,
    ("0.0.0.0/0", "unix"): False,
    ("0.0.0.0/0", ""): False,
}


@pytest.mark.parametrize("case", CLIENTS)
def test_a_link_is_for_clients_of_its_network(case):
    network, client = case
    link = read(net=network)
    if CLIENTS[case]:
        link.check_network(client)
    else:
        with pytest.raises(LinkInvalid, match="another network"):
            link.check_network(client)


def test_an_opaque_link_shows_nothing():
    link, other = new_id(), new_id()
    assert opaque_in(link.encode()) == (link, True) and link != other
    stored = sealed_claims(GOOD, link, "router a")
    assert "SECRET" not in stored and link not in stored
    assert unsealed_claims(stored, link, "router a") == GOOD
    for value, key, section in (
        (stored, other, "router a"),
        (stored, link, "router b"),
        (None, link, "router a"),
    ):
        with pytest.raises(LinkInvalid):
            unsealed_claims(value, key, section)


@pytest.mark.parametrize("text", [b"", b"a" * 21, b"a" * 23, b"a" * 21 + b"=", b"\xff" * 22, token(GOOD)])
def test_an_invalid_opaque_link_gets_a_key_that_is_never_issued(text):
    assert opaque_in(text) == ("A" * 22, False)


OFFERS = {
    (): (None, ()),
    (b"binary",): (None, (b"binary",)),
    (b"esxiproxy.link.a.b.c", b"binary"): (b"a.b.c", (b"binary",)),
    (b"binary", b"esxiproxy.link.x", b"base64", b"esxiproxy.link.y"): (b"x", (b"binary", b"base64")),
    (b"esxiproxy.link.",): (b"", ()),
    (b"Esxiproxy.link.x", b"esxiproxy.links.x"): (b"x", (b"esxiproxy.links.x",)),
}


@pytest.mark.parametrize("offered", OFFERS)
def test_a_link_is_cut_out_of_the_subprotocols(offered):
    assert without_link(offered) == OFFERS[offered]
