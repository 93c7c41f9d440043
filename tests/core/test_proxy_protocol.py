"""The PROXY protocol, in and out."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.proxy_protocol import (
    SIGNATURE,
    ProxyHeader,
    ProxyHeaderReader,
    ProxyProtocolError,
    ProxyVersion,
    encode_proxy_header,
)

A4, B4 = PeerAddress("192.0.2.7", 40000), PeerAddress("198.51.100.1", 443)
A6, B6 = PeerAddress("2001:db8::7", 40000), PeerAddress("2001:db8::1", 443)
MAPPED = b"\0" * 10 + b"\xff\xff"
V4 = b"\xc0\x00\x02\x07\xc6\x33\x64\x01\x9c\x40\x01\xbb"


def v2(command, family, body, length=None):
    size = len(body) if length is None else length
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big") + body


GOOD = {
    "v1 TCP4": (b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n", ProxyHeader(A4, B4)),
    "v1 TCP6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n", ProxyHeader(A6, B6)),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", ProxyHeader()),
    "v1 UNKNOWN with more": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ProxyHeader()),
    "v2 TCP4": (v2(0x21, 0x11, V4), ProxyHeader(A4, B4)),
    "v2 TCP4 with TLVs": (v2(0x21, 0x11, V4 + b"\x04\x00\x03abc"), ProxyHeader(A4, B4)),
    "v2 TCP6": (
        v2(
            0x21,
            0x21,
            bytes.fromhex("20010db8" + "0" * 23 + "7" + "20010db8" + "0" * 23 + "1") + b"\x9c\x40\x01\xbb",
        ),
        ProxyHeader(A6, B6),
    ),
    "v1 TCP6 with mapped addresses": (
        b"PROXY TCP6 ::ffff:c000:207 ::ffff:198.51.100.1 40000 443\r\n",
        ProxyHeader(A4, B4),
    ),
    "v2 TCP6 with mapped addresses": (
        v2(0x21, 0x21, MAPPED + V4[:4] + MAPPED + V4[4:]),
        ProxyHeader(A4, B4),
    ),
    "v2 with a client certificate": (
        v2(0x21, 0x11, V4 + b"\x20" + (4081).to_bytes(2, "big") + b"c" * 4081),
        ProxyHeader(A4, B4),
    ),
    "v2 LOCAL": (v2(0x20, 0x00, b""), ProxyHeader()),
    "v2 LOCAL with addresses": (v2(0x20, 0x11, V4), ProxyHeader()),
    "v2 UNSPEC": (v2(0x21, 0x00, b"xyz"), ProxyHeader()),
    "v2 UNIX": (v2(0x21, 0x31, b"\0" * 216), ProxyHeader()),
}


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize(("octets", "said"), GOOD.values(), ids=GOOD.keys())
def test_a_header_is_read_in_any_pieces_and_the_rest_is_returned(octets, said, step):
    reader, found = ProxyHeaderReader(), None
    for start in range(0, len(octets), step):
        assert found is None
        found = reader.feed(octets[start : start + step])
    assert found == (said, b"")
    assert ProxyHeaderReader().feed(octets + b"GET /") == (said, b"GET /")


BAD = {
    "none": b"GET / HTTP/1.1\r\n",
    "TLS": b"\x16\x03\x01",
    "lower case": b"proxy TCP4",
    "two spaces": b"PROXY  TCP4 192.0.2.7 198.51.100.1 40000 443\r\n",
    "UDP4": b"PROXY UDP4 192.0.2.7 198.51.100.1 40000 443\r\n",
    "no address": b"PROXY TCP4 a b 40000 443\r\n",
    "another family": b"PROXY TCP6 192.0.2.7 198.51.100.1 40000 443\r\n",
    "a zone": b"PROXY TCP6 fe80::1%eth0 2001:db8::1 1 2\r\n",
    "leading zeros": b"PROXY TCP4 192.0.02.7 198.51.100.1 40000 443\r\n",
    "port 70000": b"PROXY TCP4 192.0.2.7 198.51.100.1 70000 443\r\n",
    "port -1": b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 443\r\n",
    "too few": b"PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n",
    "bare LF": b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\n\r\n",
    "endless": b"PROXY TCP4 " + b"1" * 200,
    "endless UNKNOWN": b"PROXY UNKNOWN " + b"1" * 200 + b"\r\n",
    "v3": v2(0x31, 0x11, V4),
    "an unknown command": v2(0x22, 0x11, V4),
    "an unknown family": v2(0x21, 0x41, V4),
    "an unknown transport": v2(0x21, 0x13, V4),
    "too short": v2(0x21, 0x11, V4[:8]),
    "too long": v2(0x21, 0x11, b"", 4097),
    "half of a signature": SIGNATURE[:6] + b"x",
}


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize("octets", BAD.values(), ids=BAD.keys())
def test_an_invalid_header_is_refused(octets, step):
    reader = ProxyHeaderReader()
    with pytest.raises(ProxyProtocolError):
        for start in range(0, len(octets), step):
            assert reader.feed(octets[start : start + step]) is None


PORTS = st.integers(0, 65535)


@pytest.mark.parametrize("version", ProxyVersion)
@given(
    st.one_of(
        st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
        st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
    ),
    PORTS,
    PORTS,
)
def test_an_encoded_header_can_be_read(version, hosts, first, second):
    source, destination = PeerAddress(str(hosts[0]), first), PeerAddress(str(hosts[1]), second)
    octets = encode_proxy_header(version, source, destination)
    assert ProxyHeaderReader().feed(octets + b"x") == (ProxyHeader(source, destination), b"x")


@pytest.mark.parametrize("version", ProxyVersion)
@pytest.mark.parametrize(
    ("source", "destination"), [(PeerAddress("unix", 0), B4), (A4, PeerAddress("unix", 0))]
)
def test_a_connection_without_two_addresses_is_encoded_as_unknown(version, source, destination):
    assert ProxyHeaderReader().feed(encode_proxy_header(version, source, destination)) == (ProxyHeader(), b"")


@pytest.mark.parametrize("version", ProxyVersion)
def test_a_mapped_client_is_announced_as_ipv4(version):
    octets = encode_proxy_header(
        version, PeerAddress("::ffff:192.0.2.7", 40000), PeerAddress("::ffff:198.51.100.1", 443)
    )
    assert octets == encode_proxy_header(version, A4, B4) and ProxyHeaderReader().feed(octets) == (
        ProxyHeader(A4, B4),
        b"",
    )


@pytest.mark.parametrize("version", ProxyVersion)
@pytest.mark.parametrize(("source", "destination"), [(A4, B6), (A6, B4)])
def test_addresses_of_two_families_are_announced_as_ipv6(version, source, destination):
    """A client that a proxy in front has named, with another family than our own connection has."""
    octets = encode_proxy_header(version, source, destination)
    assert b"PROXY TCP6 " in octets or octets[13] == 0x21
    assert ProxyHeaderReader().feed(octets) == (ProxyHeader(source, destination), b"")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(octets):
    reader = ProxyHeaderReader()
    with suppress(ProxyProtocolError):
        reader.feed(octets)
