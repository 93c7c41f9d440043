"""The address of a connection's peer."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any, Self

from esxiproxy.core.quick_init import quick_init


def plain_host(host: str) -> str:
    """Return an address, as an IPv4 address if it is mapped into IPv6.

    A socket on ``[::]`` reports ``::ffff:192.0.2.7``.  A PROXY header may have it in hexadecimal.
    """
    if "ffff" not in host.lower():
        return host
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return host if mapped is None else str(mapped)


@quick_init
@dataclass(frozen=True, slots=True)
class PeerAddress:
    """The address of a connection's end.  For a unix socket, ``host`` is ``unix`` and ``port`` is 0.

    An IPv4 address that is mapped into IPv6 (``::ffff:192.0.2.7``) becomes the IPv4 address.
    """

    host: str
    port: int

    def __post_init__(self) -> None:
        if ":" in self.host:
            object.__setattr__(self, "host", plain_host(self.host))

    @classmethod
    def of(cls, end: Any) -> Self:
        """Return the address for a Twisted address of any kind."""
        return cls(getattr(end, "host", "unix"), getattr(end, "port", 0))

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the address for a text that ``str`` made of one."""
        host, _, port = text.rpartition(":")
        return cls(host.strip("[]"), int(port)) if host else cls(text, 0)

    def __str__(self) -> str:
        if self.host == "unix":
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
