"""One client session from its request to its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from esxiproxy.core.http.trace_context import trace_id
from esxiproxy.core.redaction import redact_text
from esxiproxy.core.routing import Destination, Principal, Route
from esxiproxy.core.session.record import Kind, Record
from esxiproxy.core.session.traffic import Traffic
from esxiproxy.core.session_limits import SessionLimits, limits_of_upstream

_OF_UPSTREAM = (UpgradeRefused, UpstreamInvalid, UpstreamLost, UpstreamRedirect)
"""Failures that a connected upstream causes.  All others are found by the proxy."""
_METHODS = {b"GET": "GET", b"HEAD": "HEAD", b"POST": "POST", b"OPTIONS": "OPTIONS"}
"""The texts of usual methods."""


class Session:
    """The state of a session, from which :meth:`record` makes its record.

    ``id`` is the session's id in log and record.  ``seconds`` is the function that reads the clock.  The
    relay sets the octet counts and ``round_trip``, the seconds between the last ping to the client and its
    pong.  ``trace_id`` is the id of the client's trace.  ``has_marks`` is whether the session needs marks of
    links, ``marked_at`` the time of day at which it took them, and ``marks_used`` whether a byte of its
    opening handshake may have been sent upstream.  ``dialled`` has the host name and the IP address of the
    connection that got the opening handshake.  ``traffic`` has the figures of a console while it is open.
    """

    __slots__ = (
        "_phases",
        "_seconds",
        "_shown_target",
        "_started",
        "close_code",
        "detail",
        "dialled",
        "ended_by",
        "error",
        "has_marks",
        "id",
        "kind",
        "limits",
        "marked_at",
        "marks_used",
        "octets_down",
        "octets_up",
        "principal",
        "request",
        "round_trip",
        "route",
        "router",
        "status",
        "timeout",
        "trace_id",
        "traffic",
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
        self.trace_id = trace_id(request.head)
        self.limits = limits
        self.principal: Principal | None = None
        self.route: Route | None = None
        self.router = ""
        self.status = 0
        self.close_code: int | None = None
        self.ended_by = ""
        self.error = ""
        self.detail = ""
        self.timeout = ""
        self.octets_up = 0
        self.octets_down = 0
        self.round_trip: float | None = None
        self.has_marks = False
        self.marked_at: float | None = None
        self.marks_used = False
        self.traffic: Traffic | None = None
        self.dialled: tuple[str, ...] = ()
        self._seconds = seconds
        self._started = seconds()
        self._phases: dict[str, float] = {}
        self._shown_target: str | None = None

    @property
    def shown_target(self) -> str:
        """The request's target for logs and records, without secrets."""
        if self._shown_target is None:
            self._shown_target = self.request.shown_target
        return self._shown_target

    @property
    def phases(self) -> Mapping[str, float]:
        """Seconds from the accepted request to each step that was reached so far."""
        return self._phases

    @property
    def age(self) -> float:
        """Seconds since the request was accepted."""
        return self._seconds() - self._started

    def mark(self, phase: str) -> None:
        """Note that the session reaches this step now."""
        self._phases[phase] = self._seconds() - self._started

    def since(self, phase: str) -> float:
        """Return the seconds since the session reached this step."""
        return self.age - self._phases[phase]

    def authenticated(self, principal: Principal) -> None:
        """Set the principal.  Raise TypeError for any other result of an authenticator."""
        if not isinstance(principal, Principal) or not isinstance(principal.name, str):
            raise TypeError(
                f"the authenticator returned {type(principal).__name__} instead of a Principal with a name"
            )
        self.principal = principal
        self._phases["authenticated"] = self._seconds() - self._started

    def routed(self, route: Route, router: str = "") -> None:
        """Set the route and apply its upstream's limits.

        ``router`` is the section of the router that has returned it.  Raise TypeError for any other result of
        a router.
        """
        if not isinstance(route, Route) or not isinstance(route.destination, Destination):
            raise TypeError(f"the router returned {type(route).__name__} instead of a Route to a Destination")
        self.has_marks = bool(route.claims)
        if overrides := route.destination.template.overrides:
            self.limits = limits_of_upstream(self.limits, overrides)
        if route.limits:
            self.limits = self.limits.shortened_by(route.limits)
        self.route = route
        self.router = router
        self._phases["routed"] = self._seconds() - self._started

    def is_of(self, section: str) -> bool:
        """Return whether the router or the authenticator of a section has decided on this session."""
        return section in (self.router, self.principal.authenticator if self.principal else "")

    def acquired(self, route: Route) -> None:
        """Set the final route, with the console, the claims and the link of the one before."""
        before = self.route
        assert before is not None
        self.route = replace(
            route,
            console=before.console,
            console_name=before.console_name,
            claims=before.claims,
            link=before.link,
            acquire=None,
        )

    def opened(self) -> None:
        """Note that the upstream has accepted the handshake with 101."""
        self.status = 101
        self._phases["opened"] = self._seconds() - self._started

    def forget_head(self) -> None:
        """Drop the parts of the request head that only the handshake needs.

        A console may last for days.
        """
        head = self.request.head
        head = RequestHead(b"", head.method, head.target, head.version, (), head.absolute)
        self.request = self.request.with_head(head)

    def answered(self, status: int) -> None:
        """Note the status of the upstream's response, whose head is being sent to the client."""
        self.status = status
        self._phases["answered"] = self._seconds() - self._started

    def failed(self, error: SessionError, ended_by: str = "") -> None:
        """Note a failure.

        Only the first failure of a session is kept, since later ones are its consequences.  ``ended_by`` is
        the side that caused it, where the class of the failure does not determine the side.
        """
        if not self.error:
            self.error = error.name
            self.detail = redact_text(str(error))
            self.timeout = error.timeout
            self.ended(ended_by or ("upstream" if isinstance(error, _OF_UPSTREAM) else "proxy"))

    def ended(self, ended_by: str, close_code: int | None = None) -> None:
        """Note the side that ended the session.  Only the first call counts."""
        if not self.ended_by:
            self.ended_by = ended_by
            self.close_code = close_code

    def closed_late(self) -> None:
        """Note that the closing handshake exceeded ``close_timeout``, unless there was a failure before."""
        if not self.error:
            self.timeout = "close_timeout"

    def record(self) -> Record:
        """Return the record of the session.  Its target and detail are redacted."""
        self._phases["closed"] = self._seconds() - self._started
        request, route, principal = self.request, self.route, self.principal
        record = Record.__new__(Record)  # a call with all fields takes six times as long
        record.session = request.session
        record.listener = request.listener
        record.client = request.client
        record.principal = principal.name if principal else ""
        record.target = self.shown_target
        if route is None:
            record.upstream = record.host = record.console = record.console_name = ""
            record.is_host_listed = False
        else:
            destination = route.destination
            record.upstream = destination.template.name
            record.host = destination.name
            record.is_host_listed = destination.is_listed
            record.console = route.console or ""
            record.console_name = route.console_name
        record.status = self.status
        record.close_code = self.close_code
        record.ended_by = self.ended_by
        record.error = self.error
        record.detail = self.detail
        record.timeout = self.timeout
        record.octets_up = self.octets_up
        record.octets_down = self.octets_down
        record.round_trip = self.round_trip
        record.phases = MappingProxyType(self._phases.copy())
        record.kind = self.kind
        record.trace_id = self.trace_id
        record.method = _METHODS.get(request.head.method) or request.head.method.decode("ascii", "replace")
        record.machine = ""
        return record
