"""Keepalive by one word: what each profile sets, and what that means for TCP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import Any


class Profile(Enum):
    """What stands between the proxy and its peers."""

    CONSOLE = "console"
    """NATs, firewalls and proxies that forget a silent connection after a minute: pings, and TCP's own."""
    LAN = "lan"
    """Nothing that forgets: TCP's own keepalive, which finds dead peers without a byte on the WebSocket."""
    OFF = "off"
    """Nothing is sent; a peer that is gone without a word is found out when something is sent to it."""


PROFILES: Mapping[Profile, Mapping[str, Any]] = MappingProxyType(
    {
        Profile.CONSOLE: MappingProxyType(
            {
                "ping_interval": 25.0,
                "ping_timeout": 20.0,
                "upstream_ping_interval": None,
                "tcp_keepalive": 60.0,
            }
        ),
        Profile.LAN: MappingProxyType(
            {"ping_interval": None, "upstream_ping_interval": None, "tcp_keepalive": 60.0}
        ),
        Profile.OFF: MappingProxyType(
            {"ping_interval": None, "upstream_ping_interval": None, "tcp_keepalive": None}
        ),
    }
)
"""Overrides of the session limits, by field name; a key that is set itself goes first."""

SHORTEST = 4
"""Seconds within which a peer may be taken for dead, at least: it is asked three times."""
_PROBES = 3
_LONGEST = 32_000
"""Linux takes no option of these beyond 32,767 s."""


@dataclass(frozen=True, slots=True)
class Probes:
    """TCP keepalive, in whole seconds as the kernel takes them.

    After ``idle`` of silence the peer is probed every ``interval``, and given up after ``count`` probes.
    """

    idle: int
    interval: int
    count: int


@lru_cache(maxsize=64)
def probes(within: float) -> Probes:
    """Probes that find a dead peer in this time, when nothing is under way to it.

    TCP_USER_TIMEOUT (RFC 5482) stays unset: Linux would ask it and no longer the number of probes when an
    idle peer is to be given up (tried on 6.18: probes that end after 6 s, with a user timeout of 10 s, take
    10 s).
    """
    whole = min(max(SHORTEST, int(within)), _LONGEST)
    interval = max(1, whole // 6)
    idle = max(1, whole - interval // 2 - interval * _PROBES)
    return Probes(idle, interval, _PROBES)
