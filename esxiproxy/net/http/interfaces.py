"""The parts of the downstream connection that its exchange uses."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from esxiproxy.core.routing import Destination
from esxiproxy.net.http.deadlines import HttpDeadlines
from esxiproxy.net.http.flow_control import HttpFlow
from esxiproxy.net.http.upstream import HttpUpstream
from esxiproxy.net.sessions import Sessions
from esxiproxy.net.upstream.gateway import Gateway


class Downstream(Protocol):
    """The downstream connection, as its exchange needs it."""

    transport: Any
    flow: HttpFlow
    clock: IReactorTime
    gateway: Gateway
    sessions: Sessions
    deadlines: HttpDeadlines

    @property
    def is_last(self) -> bool:
        """Whether the connection is closed after the current request."""

    def take_idle(
        self, destination: Destination, proxy_header: bytes, claim_names: tuple[str, ...]
    ) -> HttpUpstream | None:
        """Return the idle connection to ``destination`` that counts under these names, or None."""

    def keep_idle(self, upstream: HttpUpstream) -> None:
        """Keep an upstream connection for the next exchange."""

    def exchange_over(self, rest: bytes, keep: bool) -> None:
        """Handle the end of the exchange; ``rest`` was received after its request."""
