"""The addresses of simulated servers in URLs."""

from __future__ import annotations

from typing import Final

_EVERYWHERE: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def is_wildcard(interface: str) -> bool:
    """Return whether a server at this interface is bound to all addresses of the machine."""
    return interface in _EVERYWHERE


def url_host(interface: str) -> str:
    """Return the host of a server's URL on this machine, for the interface that it is bound to."""
    address = _EVERYWHERE.get(interface, interface)
    return f"[{address}]" if ":" in address else address
