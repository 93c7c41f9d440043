"""The outcome of what has nothing left to wait for, in tests on a clock of their own."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


def result(waiting: Any) -> Any:
    """Return the result of a Deferred or of a coroutine that does not wait, or raise its error."""
    found: list[Any] = []
    deferred = waiting if isinstance(waiting, Deferred) else Deferred.fromCoroutine(waiting)
    deferred.addBoth(found.append)
    assert found, "it waits"
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return found[0]
