"""Formats sessions and upstreams for an operator, without tickets and control characters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from esxiproxy.core.errors import SessionError
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.routing import Upstream
from esxiproxy.core.session.session import Session
from esxiproxy.core.websocket.closing import Side
from esxiproxy.ops.manhole.table import age, count, milliseconds, plain, size, table
from esxiproxy.ops.manhole.trace import TracedLeg


class LegView(TracedLeg, Protocol):
    """The part of a leg that is shown."""

    @property
    def octets(self) -> int:
        """The number of bytes relayed from this leg."""

    @property
    def blocked(self) -> bool:
        """Whether the peer of this leg accepts no more bytes."""


class RelayView(Protocol):
    """The part of a console's relay that is shown and traced."""

    @property
    def legs(self) -> Mapping[Side, LegView]:
        """The legs by their sides."""

    @property
    def octets(self) -> int:
        """The number of bytes relayed in both directions."""


class LiveSessionView(Protocol):
    """A live session: the object that owns a session's client connection."""

    session: Session

    def end(self, error: SessionError) -> None:
        """End the session with the error, which both peers get as an answer or a close code."""


class LiveSessionsView(Protocol):
    """All sessions that are admitted and have not ended."""

    def __iter__(self) -> Iterator[LiveSessionView]: ...


PLACE = ("worker", "gen", "machine")
"""The columns that say which process has a session: the worker, its generation and its machine."""


def place(identity: ProcessIdentity) -> tuple[str, ...]:
    """Return the cells of a process in the columns ``PLACE``."""
    return identity.worker, str(identity.generation), identity.machine


def sessions(live_sessions: Iterable[LiveSessionView], identity: ProcessIdentity) -> str:
    """Return a table of the sessions of a process, oldest first."""
    header = ("id", *PLACE, "listener", "client", "upstream", "age", "bytes", "rtt")
    oldest = sorted(live_sessions, key=lambda live: -_age(live.session))
    rows = [(live.session.id, *place(identity), *_cells(live)) for live in oldest]
    return f"{table(header, rows)}\n{count(len(rows), 'session')}" if rows else "no sessions"


def session(live: LiveSessionView, identity: ProcessIdentity) -> str:
    """Return the details of a session of a process, one a line."""
    session, relay = live.session, relay_of(live)
    record = session.record()
    route = session.route
    phases = (f"{name} {seconds:.3f} s" for name, seconds in record.phases.items() if name != "closed")
    rows = [
        ("session", record.session),
        *place_rows(identity),
        ("state", "open" if relay is not None else "opening"),
        ("listener", record.listener + (" (TLS)" if session.request.secure else "")),
        ("client", str(record.client)),
        ("principal", record.principal or "-"),
        ("target", record.target),
        ("upstream", f"{route.upstream.name} {_url(route.upstream)}" if route else "-"),
        ("phases", ", ".join(phases) or "-"),
        ("age", age(_age(session))),
    ]
    if relay is not None:
        up, down = relay.legs[Side.CLIENT], relay.legs[Side.UPSTREAM]
        blocked = [side.value for side, leg in relay.legs.items() if leg.blocked]
        rows += [
            ("bytes up", size(up.octets)),
            ("bytes down", size(down.octets)),
            ("rtt", milliseconds(session.round_trip)),
            ("blocked", f"waiting for the {' and the '.join(blocked)} to read" if blocked else "no"),
            ("traced", "yes" if up.on_control_written else "no"),
        ]
    return details(rows)


def place_rows(identity: ProcessIdentity) -> tuple[tuple[str, str], ...]:
    """Return the details of a process."""
    return (
        ("worker", f"{identity.worker} (generation {identity.generation})"),
        ("machine", identity.machine),
    )


def details(rows: Iterable[tuple[str, str]]) -> str:
    """Return names and values, one a line."""
    return "\n".join(f"{name:<12}{plain(value)}" for name, value in rows)


def upstreams(configured: Iterable[Upstream], live_sessions: Iterable[LiveSessionView]) -> str:
    """Return a table of the configured upstreams and those in use, with their number of sessions."""
    known = {upstream.name: upstream for upstream in configured}
    running: Counter[str] = Counter()
    octets: Counter[str] = Counter()
    for live in live_sessions:
        if live.session.route is not None:
            upstream = live.session.route.upstream
            known.setdefault(upstream.name, upstream)
            running[upstream.name] += 1
            octets[upstream.name] += _octets(live)
    header = ("upstream", "url", "verify", "sessions", "bytes")
    rows = [
        (
            name,
            *upstream_cells(upstream),
            str(running[name]),
            size(octets[name]),
        )
        for name, upstream in sorted(known.items())
    ]
    return table(header, rows) if rows else "no upstreams"


def upstream_cells(upstream: Upstream) -> tuple[str, str]:
    """Return the address of an upstream, and how it is verified."""
    return _url(upstream), upstream.verify.value if upstream.secure else "-"


def _cells(live: LiveSessionView) -> tuple[str, ...]:
    session = live.session
    return (
        session.request.listener,
        str(session.request.client),
        session.route.upstream.name if session.route else "-",
        age(_age(session)),
        size(_octets(live)),
        milliseconds(session.round_trip),
    )


def relay_of(live: LiveSessionView) -> RelayView | None:
    """Return the relay of a console, or None before the console is open and for an HTTP request."""
    relay: RelayView | None = getattr(live, "relay", None)
    return relay


def _octets(live: LiveSessionView) -> int:
    relay = relay_of(live)
    return 0 if relay is None else relay.octets


def _age(session: Session) -> float:
    return session.age


def _url(upstream: Upstream) -> str:
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    return f"{'wss' if upstream.secure else 'ws'}://{host}:{upstream.port}"
