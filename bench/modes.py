"""The three kinds of listeners that are measured, and their upstreams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.certificates import Certificate

Key = tuple[str, bool]
"""The key of a listener: the name of its mode, and whether its upstream is cold."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One kind of listener.  A `cold` upstream resumes no TLS session, a `raw` one is for websockify."""

    name: str
    title: str
    tls_down: bool
    tls_up: bool

    def upstream(self, cold: bool = False, raw: bool = False) -> str:
        """Return the name of the upstream's port."""
        if raw:
            return "raws" if self.tls_up else "raw"
        return ("cold" if cold else "wss") if self.tls_up else "ws"


MODES = {
    mode.name: mode
    for mode in (
        Mode("ws-ws", "ws → ws", False, False),
        Mode("ws-wss", "ws → wss", False, True),
        Mode("wss-wss", "wss → wss", True, True),
    )
}

LISTENERS = [(mode, cold) for mode in MODES.values() for cold in (False, True) if mode.tls_up or not cold]
"""All listeners of each proxy."""


@dataclass(frozen=True, slots=True)
class Upstreams:
    """The upstream's ports by name, its certificate, and the listeners' certificate."""

    ports: Mapping[str, int]
    certificate: Certificate
    own: Certificate
