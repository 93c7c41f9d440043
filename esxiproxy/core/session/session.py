"""One admitted client connection, while it lasts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

from esxiproxy.core.errors import (
    SessionError,
    UpgradeRefused,
    UpstreamInvalid,
    UpstreamLost,
    UpstreamRedirect,
)
from esxiproxy.core.http.head import RequestHead
from esxiproxy.core.http.request import Request
from esxiproxy.core.redaction import redact, redact_text
from esxiproxy.core.routing import Principal, Route, Upstream
from esxiproxy.core.session.record import Kind, Record
from esxiproxy.core.session_limits import SessionLimits

_OF_UPSTREAM = (UpgradeRefused, UpstreamInvalid, UpstreamLost, UpstreamRedirect)
"""What an upstream does once it is connected; that it cannot be, or may not, is found out by us."""


class Session:
    """What is known of a session so far; :meth:`record` is what stays of it.

    ``id`` is what log, record and operators call it, ``seconds`` a clock's reading function.  The octet
    counts are kept by the relay, and so is ``round_trip``, the seconds that the client's last pong took.
    """

    __slots__ = (
        "_phases",
        "_seconds",
        "_started",
        "close_code",
        "detail",
        "ended_by",
        "error",
        "id",
        "kind",
        "limits",
        "octets_down",
        "octets_up",
        "principal",
        "request",
        "round_trip",
        "route",
        "status",
        "timeout",
    )

    def __init__(
        self,
        request: Request,
        limits: SessionLimits,
        seconds: Callable[[], float],
        kind: Kind = Kind.CONSOLE,
    ) -> None:
        self.id = request.session
        self.request = request
        self.kind = kind
        self.limits = limits
        self.principal: Principal | None = None
        self.route: Route | None = None
        self.status = 0
        self.close_code: int | None = None
        self.ended_by = ""
        self.error = ""
        self.detail = ""
        self.timeout = ""
        self.octets_up = 0
        self.octets_down = 0
        self.round_trip: float | None = None
        self._seconds = seconds
        self._started = seconds()
        self._phases: dict[str, float] = {}

    @property
    def age(self) -> float:
        """Seconds since the request was accepted."""
        return self._seconds() - self._started

    def mark(self, phase: str) -> None:
        """Note that the session has reached this step now."""
        self._phases[phase] = self.age

    def since(self, phase: str) -> float:
        """Return the seconds since the session reached this step."""
        return self.age - self._phases[phase]

    def authenticated(self, principal: Principal) -> None:
        """The client turned out to be this one.  Raises TypeError for anything else that a plugin answers."""
        if not isinstance(principal, Principal) or not isinstance(principal.name, str):
            raise TypeError(f"an authenticator answered {type(principal).__name__}, no Principal with a name")
        self.principal = principal
        self.mark("authenticated")

    def routed(self, route: Route) -> None:
        """The session goes there, and keeps to that upstream's limits.  Raises TypeError likewise."""
        if not isinstance(route, Route) or not isinstance(route.upstream, Upstream):
            raise TypeError(f"a router answered {type(route).__name__}, no Route to an Upstream")
        self.limits = self.limits.overridden_by(route.upstream.overrides)
        self.route = route
        self.mark("routed")

    def opened(self) -> None:
        """The upstream's 101 is here and the client's is on its way."""
        self.status = 101
        self.mark("opened")

    def forget_head(self) -> None:
        """What only the opening handshake needed is let go: a console lasts for days."""
        head = self.request.head
        head = RequestHead(b"", head.method, head.target, head.version, (), head.absolute)
        self.request = replace(self.request, head=head)

    def answered(self, status: int) -> None:
        """The head of the upstream's answer is on its way to the client."""
        self.status = status
        self.mark("answered")

    def failed(self, error: SessionError, ended_by: str = "") -> None:
        """The first failure of a session is the one that is kept: what follows is its consequence.

        ``ended_by`` is the side that showed it, where the failure itself does not say.
        """
        if not self.error:
            self.error = error.name
            self.detail = redact_text(str(error))
            self.timeout = error.timeout
            self.ended(ended_by or ("upstream" if isinstance(error, _OF_UPSTREAM) else "proxy"))

    def ended(self, ended_by: str, close_code: int | None = None) -> None:
        """The first sign of the end came from there."""
        if not self.ended_by:
            self.ended_by = ended_by
            self.close_code = close_code

    def closed_late(self) -> None:
        """A side has not closed within ``close_timeout``; the reason of a failure is not this."""
        if not self.error:
            self.timeout = "close_timeout"

    def record(self) -> Record:
        """What there is to be kept, the ticket not among it."""
        self.mark("closed")
        return Record(
            session=self.request.session,
            listener=self.request.listener,
            client=self.request.client,
            principal=self.principal.name if self.principal else "",
            target=redact(self.request.head.target),
            upstream=self.route.upstream.name if self.route else "",
            status=self.status,
            close_code=self.close_code,
            ended_by=self.ended_by,
            error=self.error,
            detail=self.detail,
            timeout=self.timeout,
            octets_up=self.octets_up,
            octets_down=self.octets_down,
            round_trip=self.round_trip,
            phases=MappingProxyType(dict(self._phases)),
            kind=self.kind,
            method=self.request.head.method.decode("ascii", "replace"),
        )
