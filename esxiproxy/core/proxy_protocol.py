"""The PROXY protocol, versions 1 and 2: the client's address in front of a forwarded connection.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address

from esxiproxy.core.peer_address import PeerAddress

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V1 = b"PROXY "
_MAX_V1 = 107
MAX_V2 = 4096
"""Maximum size of addresses and TLVs in bytes.  A client certificate among the TLVs takes 1 to 2 KiB."""
_LINE = re.compile(rb"PROXY (?:UNKNOWN(?: [\x21-\x7e ]*)?|(TCP[46]) (\S+) (\S+) (\d{1,5}) (\d{1,5}))")
_LENGTHS = {0x11: 4, 0x21: 16}


class ProxyProtocolError(Exception):
    """The first bytes of a connection are no valid PROXY header."""


class ProxyVersion(Enum):
    """A version of the PROXY header that can be sent."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """The content of a PROXY header: the client's address and the address that it connected to.

    Both are None when the header has no addresses (LOCAL, UNKNOWN, a unix socket).  The addresses of the
    connection itself apply then.
    """

    source: PeerAddress | None = None
    destination: PeerAddress | None = None


class ProxyHeaderReader:
    """An incremental parser of one PROXY header of either version."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def __len__(self) -> int:
        return len(self._buffer)

    def feed(self, octets: bytes) -> tuple[ProxyHeader, bytes] | None:
        """Add bytes, and return the header and the bytes behind it once the header is complete, else None.

        Raise ProxyProtocolError as soon as the bytes cannot begin a header.
        """
        self._buffer += octets
        begin = bytes(self._buffer[: len(SIGNATURE)])
        if SIGNATURE.startswith(begin):
            return self._version_2()
        if _V1.startswith(begin[: len(_V1)]):
            return self._version_1()
        raise ProxyProtocolError("the connection does not begin with a PROXY header")

    def _version_1(self) -> tuple[ProxyHeader, bytes] | None:
        line, end, rest = bytes(self._buffer[:_MAX_V1]).partition(b"\r\n")
        if not end:
            if len(self._buffer) >= _MAX_V1:
                raise ProxyProtocolError("the PROXY header has no end")
            return None
        match = _LINE.fullmatch(line)
        if match is None:
            raise ProxyProtocolError("the PROXY header cannot be read")
        rest = bytes(self._buffer[len(line) + 2 :])
        family, source, destination, source_port, destination_port = match.groups()
        if family is None:
            return ProxyHeader(), rest
        return ProxyHeader(
            _address(source, source_port, family), _address(destination, destination_port, family)
        ), rest

    def _version_2(self) -> tuple[ProxyHeader, bytes] | None:
        if len(self._buffer) < 16:
            return None
        version, family, length = struct.unpack("!BBH", self._buffer[12:16])
        if version not in (0x20, 0x21) or length > MAX_V2:
            raise ProxyProtocolError("the PROXY header is of an unknown kind or too long")
        if len(self._buffer) < 16 + length:
            return None
        body, rest = bytes(self._buffer[16 : 16 + length]), bytes(self._buffer[16 + length :])
        if version == 0x20 or family not in _LENGTHS:  # LOCAL; AF_UNSPEC, AF_UNIX, UDP
            if family & 0x0F > 2 or family >> 4 > 3:
                raise ProxyProtocolError("the PROXY header has an unknown family of addresses")
            return ProxyHeader(), rest
        size = _LENGTHS[family]
        if length < 2 * size + 4:
            raise ProxyProtocolError("the PROXY header is too short for its addresses")
        ports = struct.unpack("!HH", body[2 * size : 2 * size + 4])
        return ProxyHeader(
            PeerAddress(str(ip_address(body[:size])), ports[0]),
            PeerAddress(str(ip_address(body[size : 2 * size])), ports[1]),
        ), rest


def _address(host: bytes, port: bytes, family: bytes) -> PeerAddress:
    kind = IPv4Address if family == b"TCP4" else IPv6Address
    try:
        address = str(kind(host.decode("ascii")))
    except ValueError:
        raise ProxyProtocolError("the PROXY header has an invalid address")
    if int(port) > 65535 or "%" in address:
        raise ProxyProtocolError("the PROXY header has an invalid port or a zone")
    return PeerAddress(address, int(port))


def encode_proxy_header(version: ProxyVersion, source: PeerAddress, destination: PeerAddress | None) -> bytes:
    """Return the PROXY header for a connection that is made on behalf of ``source``.

    If the families differ, the IPv4 address is mapped into IPv6.  If an end is no IP address, the header has
    no addresses.
    """
    try:
        first = ip_address(source.host.partition("%")[0])
        second = ip_address((destination or source).host.partition("%")[0])
    except ValueError:
        return _nothing(version)
    if first.version != second.version:
        first, second = _mapped(first), _mapped(second)
    ports = source.port, (destination or source).port
    if version is ProxyVersion.V1:
        return f"PROXY TCP{first.version} {first} {second} {ports[0]} {ports[1]}\r\n".encode()
    body = first.packed + second.packed + struct.pack("!HH", *ports)
    family = 0x11 if first.version == 4 else 0x21
    return SIGNATURE + struct.pack("!BBH", 0x21, family, len(body)) + body


def _mapped(address: IPv4Address | IPv6Address) -> IPv6Address:
    return address if isinstance(address, IPv6Address) else IPv6Address(f"::ffff:{address}")


def _nothing(version: ProxyVersion) -> bytes:
    """Return a header without addresses."""
    return b"PROXY UNKNOWN\r\n" if version is ProxyVersion.V1 else SIGNATURE + b"\x20\0\0\0"
