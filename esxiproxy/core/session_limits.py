"""Timeouts and sizes that apply to one session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from esxiproxy.core.identity_cache import IdentityCache

MAX_EARLY = 64 * 1024
"""Maximum number of bytes buffered until the upstream is connected, or behind a request in progress."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """The timeouts and sizes of a session, in seconds and bytes.

    ``None`` stands for *off*.  ``[proxy]`` has the defaults, a listener overrides them, and an upstream
    overrides both.
    """

    head_timeout: float = 10.0
    tls_handshake_timeout: float = 10.0
    decision_timeout: float = 10.0
    connect_timeout: float = 5.0
    upstream_handshake_timeout: float = 10.0
    keepalive_timeout: float = 60.0
    ping_interval: float | None = 25.0
    ping_timeout: float = 20.0
    upstream_ping_interval: float | None = None
    tcp_keepalive: float | None = 60.0
    idle_timeout: float | None = None
    max_lifetime: float | None = None
    stall_timeout: float = 60.0
    close_timeout: float = 5.0
    drain_timeout: float = 30.0
    max_frame: int | None = None
    response_timeout: float = 60.0
    max_body: int | None = None
    min_body_rate: int | None = 500

    def overridden_by(self, overrides: Mapping[str, Any]) -> SessionLimits:
        """Return these limits with the given values, by field name, in their place."""
        return replace(self, **overrides) if overrides else self

    def shortened_by(self, limits: Mapping[str, Any]) -> SessionLimits:
        """Return these limits with each given value, by field name, that is smaller than the present one.

        None is larger than every number.
        """
        shorter = {
            name: value
            for name, value in limits.items()
            if value is not None and ((present := getattr(self, name)) is None or value < present)
        }
        return self.overridden_by(shorter)


_of_listeners: IdentityCache[SessionLimits, IdentityCache[Mapping[str, Any], SessionLimits]] = IdentityCache(
    lambda limits: IdentityCache(limits.overridden_by)
)


def limits_of_upstream(listener: SessionLimits, overrides: Mapping[str, Any]) -> SessionLimits:
    """Return the limits of a listener with those of an upstream in their place, computed once for both."""
    return _of_listeners(listener)(overrides) if overrides else listener
