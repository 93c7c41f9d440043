"""A timeout for a Deferred, with an error of its own."""

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
