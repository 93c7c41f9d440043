"""A timeout for a Deferred with an error of its own, and a Deferred for one more caller."""

from __future__ import annotations

from typing import NoReturn, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

Result = TypeVar("Result")


def with_timeout(
    seconds: float, deferred: Deferred[Result], error: Exception, clock: IReactorTime
) -> Deferred[Result]:
    """Return the Deferred, which fails with ``error`` when it has not fired after ``seconds``."""

    def fail(_result: object, _timeout: float) -> NoReturn:
        raise error

    return deferred.addTimeout(seconds, clock, onTimeoutCancel=fail)


def fork(deferred: Deferred[None]) -> Deferred[None]:
    """Return a Deferred that fires when another one does, which other callers can still use."""
    copy: Deferred[None] = Deferred()

    def fire(result: None) -> None:
        if not copy.called:
            copy.callback(None)

    deferred.addCallback(fire)
    return copy
