"""Resolves the addresses of a destination, and checks that each of them may be dialled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from esxiproxy.core.errors import UpstreamDenied, UpstreamTimeout, UpstreamUnresolved
from esxiproxy.core.identity_cache import IdentityCache
from esxiproxy.core.networks import canonical
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Destination, TCPAddress, UnixAddress, Upstream
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.net.transport.interfaces import family_of
from esxiproxy.net.upstream.dial import session_error, where
from esxiproxy.net.upstream.names import NameResolver
from esxiproxy.net.upstream.race import Candidate

_NEXT_ADDRESS = 0.3
"""Seconds that an address of a name has alone before the name's next address is tried beside it."""
_ANY = ("0.0.0.0", "::")


def literal_candidates(destination: Destination) -> tuple[Candidate, ...] | None:
    """Return the candidates of a destination; None if a name has to be resolved."""
    return _literal_candidates(destination)


def _find_literal(destination: Destination) -> tuple[Candidate, ...] | None:
    found = []
    for address in destination.addresses:
        host = address.path if isinstance(address, UnixAddress) else address.host
        if isinstance(address, TCPAddress) and family_of(host) is None:
            return None
        upstream = destination.upstream_at(address)
        found.append(Candidate(upstream, host, destination.template.failover_delay))
    return tuple(found)


_literal_candidates = IdentityCache(_find_literal)


async def resolve(
    destination: Destination, names: NameResolver, clock: IReactorTime, seconds: float
) -> tuple[Candidate, ...]:
    """Return the candidates of a destination, whose names are looked up at once.

    A destination with names has no unix sockets.
    A name that cannot be resolved is left out while another address is left.  Raises UpstreamUnresolved or
    UpstreamTimeout.
    """
    upstreams = [
        destination.upstream_at(address)
        for address in destination.addresses
        if isinstance(address, TCPAddress)
    ]
    looking = [Deferred.fromCoroutine(_hosts(each, names, clock, seconds)) for each in upstreams]
    found: list[Candidate] = []
    error: Exception | None = None
    try:
        for number, upstream in enumerate(upstreams):
            try:
                hosts = await looking[number]
            except (UpstreamUnresolved, UpstreamTimeout) as raised:
                error = error or raised
                continue
            delay = destination.template.failover_delay
            for host in hosts:
                found.append(Candidate(upstream, host, delay))
                delay = _NEXT_ADDRESS
    finally:
        for waiting in looking:
            waiting.cancel()
        looking.clear()  # an exception that refers to this frame would be a reference cycle
    if found:
        return tuple(found)
    try:
        raise error or UpstreamUnresolved(f"{destination.name} has no address")
    finally:
        error = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The proxy's own addresses, which a destination may not have.

    ``own`` returns the addresses and ports of the listeners.  ``listening`` is the local address of the
    client's connection.
    """

    listening: PeerAddress | None = None
    own: Callable[[], Collection[tuple[str, int]]] = tuple


def check_addresses(
    candidates: Sequence[Candidate], destination: Destination, surroundings: Surroundings
) -> None:
    """Raise UpstreamDenied unless every candidate may be dialled."""
    networks = destination.networks
    if networks.unchecked:
        return
    for candidate in candidates:
        if candidate.host.startswith("/"):
            raise UpstreamDenied(f"{destination.name} is a unix socket, which may not be dialled")
        if not networks.permits(ip_address(candidate.host.partition("%")[0])):
            raise UpstreamDenied(f"the address {candidate.host} of {destination.name} may not be dialled")
        if networks.allow is None and _is_own(candidate, surroundings):
            raise UpstreamDenied(f"{destination.name} is a listener of the proxy itself")


def _is_own(candidate: Candidate, surroundings: Surroundings) -> bool:
    host, port, listening = canonical(candidate.host), candidate.upstream.port, surroundings.listening
    local = canonical(listening.host) if listening is not None and family_of(listening.host) else ""
    return any(
        port == bound and host == (local if at in _ANY else canonical(at)) for at, bound in surroundings.own()
    )


async def _hosts(
    upstream: Upstream, names: NameResolver, clock: IReactorTime, seconds: float
) -> Sequence[str]:
    """Return the IP addresses of an upstream.  Raises UpstreamUnresolved or UpstreamTimeout."""
    if family_of(upstream.host) is not None:
        return (upstream.host,)
    try:
        found = await names.look_up(upstream.host).addTimeout(seconds, clock)
    except TimeoutError:
        text = f"the host name of {where(upstream)} was not resolved in time"
        raise UpstreamTimeout(text, timeout="upstream_handshake_timeout") from None
    except DNSLookupError:
        raise session_error(Failure(), upstream, SessionLimits()) from None
    return tuple(dict.fromkeys(address.host for address in found))
