"""Connects to a destination: look-up, check of the addresses, and the race between several of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime

from esxiproxy.core.errors import UpgradeRefused, UpstreamError
from esxiproxy.core.routing import Destination
from esxiproxy.net.upstream.candidates import Surroundings, check_addresses, literal_candidates, resolve
from esxiproxy.net.upstream.health import Health, address_of
from esxiproxy.net.upstream.names import NameResolver
from esxiproxy.net.upstream.race import Candidate, Race

T = TypeVar("T")


async def connect_first(
    destination: Destination,
    attempt: Callable[[Candidate, float, Callable[[], bool] | None], Awaitable[T]],
    names: NameResolver,
    clock: IReactorTime,
    seconds: float,
    surroundings: Surroundings,
    health: Health,
    order: Callable[[Sequence[Candidate]], Sequence[Candidate]] = tuple,
    usable: Callable[[Sequence[Candidate]], Sequence[Candidate]] | None = None,
) -> T:
    """Return the connection to the first address of a destination whose host is verified.

    ``attempt`` connects to one address within the given seconds.  Its last argument is called when the host
    is verified and returns whether the request may be sent there; it is None for a single address.
    ``seconds`` is the deadline for all of it.  ``order`` returns several addresses in the order in which they
    are tried, and ``health`` learns which of them failed.  ``usable`` returns those that may be tried, or
    raises the refusal if there are none.  Raises a SessionError.
    """
    candidates: Sequence[Candidate] | None = literal_candidates(destination)
    if candidates is None:
        begun = clock.seconds()
        candidates = await resolve(destination, names, clock, seconds)
        seconds -= clock.seconds() - begun
    check_addresses(candidates, destination, surroundings)
    if usable is not None:
        candidates = usable(candidates)
    if len(candidates) == 1:
        return await attempt(candidates[0], seconds, None)
    end = clock.seconds() + seconds

    async def attempt_until(candidate: Candidate, may_send: Callable[[], bool]) -> T:
        try:
            return await attempt(candidate, max(0.0, end - clock.seconds()), may_send)
        except UpstreamError:
            health.failed(address_of(candidate))
            raise
        except UpgradeRefused as error:
            if error.status_code >= 500:
                health.failed(address_of(candidate))
            raise

    return await Race(order(candidates), attempt_until, clock).start()
