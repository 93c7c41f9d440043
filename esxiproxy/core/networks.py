"""The rule for addresses that may be dialled, and the address that a form of an address stands for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

IP = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAT64 = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
_COMPATIBLE = IPv6Network("::/96")


def embedded(address: IP) -> IP:
    """Return the IPv4 address that an IPv6 form stands for, and any other address unchanged.

    The forms are IPv4-mapped and IPv4-compatible (RFC 4291 2.5.5), NAT64 (RFC 6052, RFC 8215) and 6to4
    (RFC 3056).
    """
    if not isinstance(address, IPv6Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    number = int(address)
    if address in _NAT64 or address in _NAT64_LOCAL or (address in _COMPATIBLE and number > 0xFFFF):
        return IPv4Address(number & 0xFFFFFFFF)
    return address


@lru_cache(maxsize=4096)
def canonical(host: str) -> str:
    """Return the text of an IP address by which connections are counted: an IPv4-mapped one as IPv4.

    The path of a unix socket is not changed.
    """
    if host.startswith("/"):
        return host
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


def is_special(address: IP) -> bool:
    """Return whether an address is loopback, link-local, multicast, unspecified or reserved for broadcast."""
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address == IPv4Address("255.255.255.255")
        or (isinstance(address, IPv4Address) and int(address) >> 24 == 0)
    )


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks whose addresses may be dialled.

    ``allow`` is None where every address may be dialled that is not special, such as loopback.  Special
    addresses have to be in ``allow``.  ``deny`` precedes ``allow``.  ``unchecked`` is the rule for an
    upstream whose URL the operator wrote: every address may be dialled.
    """

    allow: tuple[Network, ...] | None = None
    deny: tuple[Network, ...] = ()
    unchecked: bool = False

    def permits(self, address: IP) -> bool:
        """Return whether this address may be dialled; other forms are judged by the address inside."""
        if self.unchecked:
            return True
        forms = {address, embedded(address)}
        if any(_is_in(form, self.deny) for form in forms):
            return False
        inside = embedded(address)
        if self.allow is not None and not _is_in(inside, self.allow):
            return False
        return self.allow is not None or not is_special(inside)


UNCHECKED = Networks(unchecked=True)


def _is_in(address: IP, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
