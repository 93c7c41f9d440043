"""Several stops that run at once."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList


async def stop_all(stops: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run the stops at once, and wait until all have ended; a cancellation cancels each.

    Raise the first error, in the order of the stops.
    """
    outcomes: list[tuple[bool, Any]] = await DeferredList(
        [Deferred.fromCoroutine(stop) for stop in stops], consumeErrors=True
    )
    for is_stopped, outcome in outcomes:
        if not is_stopped:
            outcome.raiseException()
