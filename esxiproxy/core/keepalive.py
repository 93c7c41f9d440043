"""Keepalive profiles, and the TCP keepalive options that follow from a detection time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import Any


class Profile(Enum):
    """A keepalive profile, named for the network between the proxy and its peers."""

    CONSOLE = "console"
    """Pings and TCP keepalive, for NATs and firewalls that drop an idle connection after a minute."""
    LAN = "lan"
    """TCP keepalive alone, which detects dead peers without traffic on the WebSocket."""
    OFF = "off"
    """No probes.  A dead peer is detected only when data is sent to it."""


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
"""Session limits of each profile, by field name.  A configured key overrides its profile."""

SHORTEST = 4
"""Minimum detection time of a dead peer in seconds, since three probes are sent."""
_PROBES = 3
_LONGEST = 32_000
"""Maximum detection time in seconds.  Linux limits these options to 32,767 s."""


@dataclass(frozen=True, slots=True)
class Probes:
    """TCP keepalive options, in whole seconds.

    The kernel probes the peer after ``idle`` seconds without traffic, then every ``interval`` seconds, and
    ends the connection after ``count`` unanswered probes.
    """

    idle: int
    interval: int
    count: int


@lru_cache(maxsize=64)
def probes(within: float) -> Probes:
    """Return the probes that detect a dead peer on an idle connection in ``within`` seconds.

    TCP_USER_TIMEOUT (RFC 5482) stays unset: with it, Linux ignores the number of probes on an idle connection
    (tried on 6.18: probes that end after 6 s take 10 s with a user timeout of 10 s).
    """
    whole = min(max(SHORTEST, int(within)), _LONGEST)
    interval = max(1, whole // 6)
    idle = max(1, whole - interval // 2 - interval * _PROBES)
    return Probes(idle, interval, _PROBES)
