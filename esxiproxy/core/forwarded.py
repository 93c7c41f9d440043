"""Where a request came from, as far as the word of trusted proxies is taken for it (RFC 7239)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from esxiproxy.core.head import HOST, RequestHead
from esxiproxy.core.request import Address

Network = IPv4Network | IPv6Network

MAX_CHAIN = 20
"""Addresses of X-Forwarded-For that are looked at; nobody has that many proxies."""
_SECURE = {b"https": True, b"wss": True, b"http": False, b"ws": False}
_NODE = re.compile(rb"\[([0-9A-Fa-f:.]+)\](?::(\d{1,5}))?|([0-9.]+)(?::(\d{1,5}))?|([0-9A-Fa-f:.]+)")
_PAIR = re.compile(rb"\s*([A-Za-z]+)=(?:\"([^\"\\]*)\"|([^\";,\s]*))\s*")


@dataclass(frozen=True, slots=True)
class Trust:
    """The networks whose forwarded fields are believed; ``unix`` stands for clients of a unix socket."""

    networks: tuple[Network, ...] = ()
    unix: bool = False

    def believes(self, host: str) -> bool:
        """Whether the word of a peer with this address is taken."""
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
class Origin:
    """Where a request came from.

    ``chain`` are the addresses for X-Forwarded-For, the client's first and our own peer's last; ``secure``
    says whether the client's own connection is TLS, ``host`` what it has in its Host field.
    """

    client: Address
    chain: tuple[str, ...]
    secure: bool
    host: bytes | None


def origin_of(head: RequestHead, peer: Address, secure: bool, trust: Trust) -> Origin:
    """Walk from our peer toward the client, for as long as whoever speaks is believed.

    Where a request has both, X-Forwarded-For is read: a proxy that sets Forwarded takes a stranger's
    X-Forwarded-For out, one that sets X-Forwarded-For often knows nothing of Forwarded.
    """
    host = head.value(b"host")
    chain = [peer.host]
    if not trust.believes(peer.host):
        return Origin(peer, tuple(chain), secure, host)
    client = peer
    nodes, told_secure, told_host = _told(head)
    for node in reversed(nodes[-MAX_CHAIN:]):
        found = _address(node)
        if found is None:  # "unknown", a name, nonsense: nothing beyond it can be known
            break
        client = found
        chain.insert(0, found.host)
        if not trust.believes(found.host):
            break
    if told_host is not None and HOST.fullmatch(told_host):
        host = told_host
    return Origin(client, tuple(chain), secure if told_secure is None else told_secure, host)


def _told(head: RequestHead) -> tuple[list[bytes], bool | None, bytes | None]:
    if head.values(b"x-forwarded-for") or not head.values(b"forwarded"):
        proto, host = (_last(head, name) for name in (b"x-forwarded-proto", b"x-forwarded-host"))
        return _elements(head, b"x-forwarded-for"), _SECURE.get((proto or b"").lower()), host
    elements = [_pairs(element) for element in _elements(head, b"forwarded")]
    nodes = [pairs.get(b"for", b"unknown") for pairs in elements]
    nearest = elements[-1] if elements else {}
    return nodes, _SECURE.get(nearest.get(b"proto", b"").lower()), nearest.get(b"host")


def _elements(head: RequestHead, name: bytes) -> list[bytes]:
    return [part.strip() for value in head.values(name) for part in value.split(b",")]


def _last(head: RequestHead, name: bytes) -> bytes | None:
    """The nearest proxy's word, which stands last."""
    found = _elements(head, name)
    return found[-1] if found else None


def _pairs(element: bytes) -> dict[bytes, bytes]:
    pairs = {}
    for part in element.split(b";"):
        if match := _PAIR.fullmatch(part):
            quoted, plain = match.group(2, 3)
            pairs[match.group(1).lower()] = plain if quoted is None else quoted
    return pairs


def _address(node: bytes) -> Address | None:
    match = _NODE.fullmatch(node)
    if match is None:
        return None
    bracketed, port6, four, port4, bare = match.groups()
    try:
        host = str(_plain((bracketed or four or bare).decode("ascii")))
    except ValueError:
        return None
    return Address(host, int(port6 or port4 or 0))


def _plain(host: str) -> IPv4Address | IPv6Address:
    """An IPv4 address that came in through an IPv6 socket is an IPv4 address."""
    address = ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
