"""Checks the consoles of one listener against the drains, at each step at which they may be refused."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from esxiproxy.core.errors import SessionError
from esxiproxy.core.routing import Destination, Route, TCPAddress
from esxiproxy.core.session.drain import Drain
from esxiproxy.core.session.session import Session
from esxiproxy.net.admission.drains import ActiveDrains, refusal_of
from esxiproxy.net.upstream.candidates import literal_candidates, resolve
from esxiproxy.net.upstream.connector import Connector
from esxiproxy.net.upstream.race import Candidate


async def check_arrival(drains: ActiveDrains, session: Session) -> None:
    """Raise Draining if the listener of a console is drained; wait for the drains to be known."""
    if (waiting := drains.ready()) is not None:
        await waiting
    _check(drains.current.of_listener(session.request.listener))


async def check_route(drains: ActiveDrains, session: Session, route: Route, connector: Connector) -> None:
    """Raise Draining if the listener, the upstream or every address of a route is drained.

    It is called before slots, rates and marks are taken.  Names are looked up only if an address is drained.
    """
    if not drains.current.has_own:
        return
    _check(drains.current.of_listener(session.request.listener))
    destination = route.destination
    _check_destination(drains, destination)
    if not drains.current.has_hosts:
        return
    candidates = literal_candidates(destination)
    if candidates is None and drains.current.has_addresses:
        seconds = session.limits.upstream_handshake_timeout
        with suppress(SessionError):  # the dial reports it
            candidates = await resolve(destination, connector.names, drains.clock, seconds)
    if candidates is not None:
        undrained(drains, destination, candidates)
        return
    names = [address.host for address in destination.addresses if isinstance(address, TCPAddress)]
    found = [drains.current.of_host(name) for name in names]
    if found and all(found):
        _check(found[0])


def undrained(
    drains: ActiveDrains, destination: Destination, candidates: Sequence[Candidate]
) -> Sequence[Candidate]:
    """Return the addresses of a destination that are not drained; raise Draining if none is left."""
    if not drains.current.has_own:
        return candidates
    _check_destination(drains, destination)
    if not drains.current.has_hosts:
        return candidates
    left = [candidate for candidate in candidates if _drain_of(drains, candidate) is None]
    if not left and candidates:
        _check(_drain_of(drains, candidates[0]))
    return left


def check_destination(drains: ActiveDrains, session: Session, destination: Destination) -> None:
    """Raise Draining if the listener of a console or its destination is drained, as far as is known now."""
    if not drains.current.has_own:
        return
    _check(drains.current.of_listener(session.request.listener))
    _check_destination(drains, destination)
    if drains.current.has_hosts and (candidates := literal_candidates(destination)):
        undrained(drains, destination, candidates)


def check_address(drains: ActiveDrains, session: Session, candidate: Candidate) -> None:
    """Raise Draining if a console may not be dialled to an address, after it has waited for a slot."""
    if not drains.current.has_own:
        return
    _check(drains.current.of_listener(session.request.listener))
    if session.route is not None:
        _check_destination(drains, session.route.destination)
    _check(_drain_of(drains, candidate))


def _check_destination(drains: ActiveDrains, destination: Destination) -> None:
    _check(drains.current.of_upstream(destination.template.name))
    _check(drains.current.of_host(destination.name))


def _drain_of(drains: ActiveDrains, candidate: Candidate) -> Drain | None:
    return drains.current.of_host(candidate.upstream.host, candidate.host)


def _check(drain: Drain | None) -> None:
    if drain is not None:
        raise refusal_of(drain)
