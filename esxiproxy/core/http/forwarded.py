"""The client of a request, as far as trusted proxies name it (RFC 7239 and X-Forwarded-*)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from esxiproxy.core.http.head import HOST, RequestHead
from esxiproxy.core.peer_address import PeerAddress

Network = IPv4Network | IPv6Network

MAX_CHAIN = 20
"""Maximum number of addresses of X-Forwarded-For that are read."""
_SECURE = {b"https": True, b"wss": True, b"http": False, b"ws": False}
_PORT = rb"(?::(?:(\d{1,5})|_[A-Za-z0-9._-]+))?"  # RFC 7239 6.3: a number, or a name in place of it
_NODE = re.compile(rb"\[([0-9A-Fa-f:.]+)\]%b|([0-9.]+)%b|([0-9A-Fa-f:.]+)".replace(b"%b", _PORT), re.DOTALL)
_STRING = rb'"(?:[^"\\]|\\.)*"'
_WELL_QUOTED = re.compile(rb'[^"]*(?:%b[^"]*)*' % _STRING, re.DOTALL)
_ELEMENT = re.compile(rb'(?:[^",]|%b)+' % _STRING, re.DOTALL)
_PAIR = re.compile(rb'[ \t]*([A-Za-z0-9_-]+)=(%b|[^";,\s]*)[ \t]*(?:;|\Z)' % _STRING, re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_NUMBER = re.compile(rb"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The networks whose forwarded fields are accepted.  ``unix`` stands for clients of a unix socket.

    A network of mapped addresses (``::ffff:10.0.0.0/104``) is the IPv4 network.
    """

    networks: tuple[Network, ...] = ()
    unix: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "networks", tuple(map(_plain_network, self.networks)))

    def contains(self, host: str) -> bool:
        """Return whether the peer with this address is a trusted proxy."""
        if host == "unix":
            return self.unix
        if not self.networks:
            return False
        try:
            address = _plain(host)
        except ValueError:
            return False
        return any(address in network for network in self.networks if network.version == address.version)


@dataclass(frozen=True, slots=True)
class ForwardedClient:
    """The origin of a request.

    ``chain`` has the addresses for X-Forwarded-For, from the client to the peer.  ``secure`` is whether the
    client's own connection uses TLS.  ``host`` is the client's Host field.  ``other_host`` is the host with
    the port of X-Forwarded-Port if ``host`` has none, and without it if ``host`` has it.
    """

    client: PeerAddress
    chain: tuple[str, ...]
    secure: bool
    host: bytes | None
    other_host: bytes | None = None


def forwarded_client(
    head: RequestHead, peer: PeerAddress, secure: bool, trust: TrustedProxies
) -> ForwardedClient:
    """Return the origin of a request, walking from the peer to the client while each address is trusted.

    If a request has both kinds of fields, X-Forwarded-For is read.  A proxy that sets Forwarded removes a
    client's X-Forwarded-For, but a proxy that sets X-Forwarded-For often does not know Forwarded.
    """
    host = head.value(b"host")
    chain = [peer.host]
    if not trust.contains(peer.host):
        return ForwardedClient(peer, tuple(chain), secure, host)
    client = peer
    nodes, claimed_secure, claimed_host, claimed_port = _claimed(head)
    for node in reversed(nodes):
        found = _address(node)
        if found is None:  # "unknown", a name or an invalid address ends the chain
            break
        client = found
        chain.insert(0, found.host)
        if not trust.contains(found.host):
            break
    secure = secure if claimed_secure is None else claimed_secure
    other = _with_port(host, claimed_port)  # a Host that the proxy has preserved has the client's own port
    if claimed_host is not None and HOST.fullmatch(claimed_host):
        other, host = claimed_host, _with_port(claimed_host, claimed_port)
    return ForwardedClient(client, tuple(chain), secure, host, None if other == host else other)


def _claimed(head: RequestHead) -> tuple[list[bytes], bool | None, bytes | None, bytes | None]:
    """Return the nodes, whether TLS is used, the Host and the port, as the nearest proxies state them."""
    if head.values(b"x-forwarded-for") or not head.values(b"forwarded"):
        names = (b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port")
        proto, host, port = (_last(head, name) for name in names)
        return _elements(head, b"x-forwarded-for"), _SECURE.get((proto or b"").lower()), host, port
    elements = [_pairs(element) for element in _elements(head, b"forwarded")]
    nodes = [pairs.get(b"for", b"unknown") for pairs in elements]
    nearest = elements[-1] if elements else {}
    return nodes, _SECURE.get(nearest.get(b"proto", b"").lower()), nearest.get(b"host"), None


def _with_port(host: bytes | None, port: bytes | None) -> bytes | None:
    """Return the Host with the port of X-Forwarded-Port, or the Host alone.

    A Host with a port keeps it.  The default port of the scheme is left out.  The default port of the other
    scheme contradicts X-Forwarded-Proto and is ignored.
    """
    if host is None or port is None or _NUMBER.fullmatch(port) is None or not 0 < int(port) <= 65535:
        return host
    if int(port) in (80, 443) or b":" in host.rpartition(b"]")[2]:
        return host
    return b"%b:%d" % (host, int(port))


def _elements(head: RequestHead, name: bytes) -> list[bytes]:
    """Return the last ``MAX_CHAIN`` elements of a list field, without empty ones (RFC 9110 5.6.1).

    A comma in a quoted string separates nothing.  Unbalanced quotes count as ordinary characters, so that a
    client's open string does not hide the addresses that proxies have added.
    """
    found: list[bytes] = []
    for value in reversed(head.values(name)):
        if b'"' in value and _WELL_QUOTED.fullmatch(value):
            parts = _ELEMENT.findall(value)
        else:
            parts = value.split(b",")
        for part in reversed(parts):
            if stripped := part.strip():
                found.append(stripped)
                if len(found) == MAX_CHAIN:
                    return found[::-1]
    return found[::-1]


def _last(head: RequestHead, name: bytes) -> bytes | None:
    """Return the last element of a list field, which the nearest proxy has added."""
    found = _elements(head, name)
    return _unquoted(found[-1]) if found else None


def _pairs(element: bytes) -> dict[bytes, bytes]:
    """Return the parameters of an element of Forwarded, up to the first malformed one."""
    pairs: dict[bytes, bytes] = {}
    place = 0
    while match := _PAIR.match(element, place):
        pairs[match[1].lower()] = _unquoted(match[2])
        place = match.end()
        if place == len(element):
            break
    return pairs


def _unquoted(value: bytes) -> bytes:
    if len(value) < 2 or not value.startswith(b'"') or not value.endswith(b'"'):
        return value
    return _ESCAPED.sub(rb"\1", value[1:-1])


def _address(node: bytes) -> PeerAddress | None:
    match = _NODE.fullmatch(_unquoted(node))
    if match is None:
        return None
    bracketed, port6, four, port4, bare = match.groups()
    try:
        host = str(_plain((bracketed or four or bare).decode("ascii")))
    except ValueError:
        return None
    port = int(port6 or port4 or 0)
    return PeerAddress(host, port if port <= 65535 else 0)


def _plain(host: str) -> IPv4Address | IPv6Address:
    """Return the address, as an IPv4 address if it is mapped into IPv6."""
    address = ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _plain_network(network: Network) -> Network:
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < 96:
        return network
    return IPv4Network((mapped, network.prefixlen - 96))
