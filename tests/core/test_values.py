"""The values of texts in the configuration."""

from pathlib import Path

import pytest

from esxiproxy.core.config import quantities, values
from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.listen_address import listen_address
from esxiproxy.core.config.url import UpstreamURL, public_url, upstream_url
from esxiproxy.core.routing import Verify
from esxiproxy.core.thumbprint import Pin

FOLDER = Path("/etc/esxiproxy")
SHA1, SHA256 = "0123456789abcdef" * 2 + "01234567", "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("1ms", 0.001),
        ("30s", 30),
        ("10m", 600),
        ("1h", 3600),
        ("2d", 172800),
        ("365d", 31536000),
    ],
)
def test_a_duration_is_read_in_seconds(text, seconds):
    assert quantities.duration(text) == seconds == quantities.duration_or_off(text)
    assert isinstance(quantities.duration(text), float)


def test_off_is_none():
    assert quantities.duration_or_off("off") is None
    assert quantities.size_or_off("off") is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("4096", 4096),
        ("64KiB", 65536),
        ("1MiB", 1 << 20),
        ("2GiB", 2 << 30),
        (str((1 << 63) - 1),) * 2,
    ],
)
def test_a_size_is_read_in_bytes(text, size):
    assert quantities.size_or_off(text) == int(size)


def test_thumbprints_are_read_in_any_case_with_and_without_colons():
    colons = ":".join(SHA256[i : i + 2] for i in range(0, 64, 2)).upper()
    assert values.pins(f"sha256:{colons}, SHA1:{SHA1}") == (Pin("sha256", SHA256), Pin("sha1", SHA1))
    assert values.pins(str(Pin("sha256", SHA256))) == (Pin("sha256", SHA256),)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("ws://192.0.2.10", UpstreamURL(False, "192.0.2.10", 80)),
        ("wss://192.0.2.10", UpstreamURL(True, "192.0.2.10", 443)),
        ("WSS://ESXi1.Example.com:8443", UpstreamURL(True, "esxi1.example.com", 8443)),
        ("wss://[2001:DB8:0::1]:443", UpstreamURL(True, "2001:db8::1", 443)),
        ("ws://[::1]", UpstreamURL(False, "::1", 80)),
        ("ws://esxi_1", UpstreamURL(False, "esxi_1", 80)),
    ],
)
def test_a_url_is_read(text, url):
    assert upstream_url(text) == url


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("0.0.0.0:82", "tcp:port=82:interface=0.0.0.0:backlog=512"),
        (":82", "tcp:port=82:interface=0.0.0.0:backlog=512"),
        ("127.0.0.1:0", "tcp:port=0:interface=127.0.0.1:backlog=512"),
        ("[::]:82", r"tcp6:port=82:interface=\:\::backlog=512"),
        ("[2001:db8::1]:82", r"tcp6:port=82:interface=2001\:db8\:\:1:backlog=512"),
        ("[fe80::1%eth0]:82", r"tcp6:port=82:interface=fe80\:\:1%eth0:backlog=512"),
        ("unix:/run/x.sock", "unix:/run/x.sock:backlog=512"),
        ("unix:x.sock", "unix:/etc/esxiproxy/x.sock:backlog=512"),
        ("unix:../run/x.sock:mode=660", "unix:/etc/run/x.sock:mode=660:backlog=512"),
        (r"unix:a\:b", r"unix:/etc/esxiproxy/a\:b:backlog=512"),
        ("unix:address=x:backlog=9", "unix:/etc/esxiproxy/x:backlog=9"),
        ("tcp:8080:interface=127.0.0.1", "tcp:8080:interface=127.0.0.1"),
        ("tcp:8080", "tcp:8080"),
        (r"tcp6:port=82:interface=\:\:1", r"tcp6:port=82:interface=\:\:1"),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0"),
        ("onion:8080:hiddenServiceDir=/x", "onion:8080:hiddenServiceDir=/x"),
    ],
)
def test_an_address_becomes_a_twisted_endpoint(text, endpoint):
    address = listen_address(text, FOLDER)
    assert (address.endpoint, address.text) == (endpoint, text)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("0.0.0.0:82", ":82", True),
        ("0.0.0.0:82", "127.0.0.1:82", True),
        (":82", "192.0.2.1:82", True),
        ("[::]:82", "[::1]:82", True),
        ("[::]:82", "127.0.0.1:82", True),
        ("[::]:82", "0.0.0.0:82", True),
        ("0.0.0.0:82", "[::1]:82", False),
        ("127.0.0.1:82", "127.0.0.2:82", False),
        ("127.0.0.1:82", "127.0.0.1:83", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("tcp:82", "127.0.0.1:82", True),
        (r"tcp:82:interface=\:\:", "[::1]:82", True),
        ("tcp:82:interface=192.0.2.1", "192.0.2.2:82", False),
        ("unix:/etc/esxiproxy/x", "unix:x:mode=600", True),
        ("unix:x", "unix:y", False),
        ("unix:x", ":82", False),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0", True),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=1", False),
        ("systemd:domain=INET:index=0", ":82", False),
    ],
)
def test_addresses_that_cannot_be_bound_together_overlap(one, other, overlap):
    """Twisted and Linux bind [::] for IPv4 too."""
    a, b = listen_address(one, FOLDER), listen_address(other, FOLDER)
    assert (a.overlaps(b), b.overlaps(a)) == (overlap, overlap)


def test_a_choice_is_an_enum_by_its_value():
    assert values.choice(Verify)("pin") is Verify.PIN
    with pytest.raises(BadValue, match=r"^'Pin' is not system, ca, pin or none$"):
        values.choice(Verify)("Pin")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://consoles.example.com", "https://consoles.example.com"),
        ("HTTPS://Consoles.Example.com:443/", "https://consoles.example.com"),
        ("https://consoles.example.com:8443/base/", "https://consoles.example.com:8443/base"),
        ("http://192.0.2.7:80/A/b", "http://192.0.2.7/A/b"),
        ("http://[2001:DB8::7]:82", "http://[2001:db8::7]:82"),
    ],
)
def test_a_public_url_has_no_slash_at_its_end(text, url):
    assert public_url(text) == url


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("consoles.example.com", "is no URL of a page"),
        ("wss://consoles.example.com", "is no URL of a page"),
        ("https:///x", "has no host"),
        ("https://a/?x", "has a query"),
        ("https://a/#x", "has a fragment"),
        ("https://user:pw@a/", "has a user"),
        ("https://a:0", "is no port"),
        ("https://a/../b", "read in two ways"),
        ("https://a//b", "read in two ways"),
        ("https://a/%2fb", "read in two ways"),
        ("https://a/b c", "read in two ways"),
        ("https://a/\u00e9", "read in two ways"),
    ],
)
def test_an_odd_public_url_is_refused(text, wrong):
    with pytest.raises(BadValue, match=wrong):
        public_url(text)
