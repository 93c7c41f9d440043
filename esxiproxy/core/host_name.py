"""Host names and addresses that others than the operator name."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from esxiproxy.core.networks import canonical

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# A last label that a resolver or a URL parser reads as the end of an IPv4 address (inet_aton, WHATWG URL).
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LONGEST = 253


def plain_host(text: str) -> str:
    """Return a host name in lower case without its final dot, or an IP address.

    An address has to be in its canonical form without brackets and zone, and no IPv4 address in IPv6 form.
    Raise ValueError for everything else, with a text that does not repeat the input.
    """
    if not text.isascii():
        raise ValueError("the host is not ASCII: write a name in its ASCII form, xn--...")
    if ":" in text:
        return _ipv6(text)
    host = text.lower().removesuffix(".")
    if len(host) > _LONGEST:
        raise ValueError(f"the host name is longer than {_LONGEST} characters")
    labels = host.split(".")
    if not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("the host is no host name and no IP address")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(text)
    return host


def _ipv4(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise ValueError("the host ends in a number and is no IPv4 address: write four decimal numbers")


def _ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except ValueError:
        raise ValueError("the host is no host name and no IP address")
    if address.scope_id is not None:
        raise ValueError("the host is an IPv6 address with a zone: write it without the zone")
    if address.ipv4_mapped is not None:
        raise ValueError("the host is an IPv4 address in IPv6 form: write the IPv4 address")
    if str(address) != text.lower():
        raise ValueError("the host is no canonical IPv6 address: write it as in 2001:db8::1")
    return str(address)


@lru_cache(maxsize=4096)
def host_key(name: str) -> str:
    """Return the form in which names and addresses of hosts are compared.

    Names are in lower case without a final dot.  Addresses are in their canonical form without brackets and
    zone, and an IPv4-mapped address is the IPv4 address.
    """
    text = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        return canonical(text)
    except ValueError:
        return name.lower().removesuffix(".")
