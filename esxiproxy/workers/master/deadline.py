"""A timeout for a Deferred, with an error of its own."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import Deferred

Result = TypeVar("Result")


def with_timeout(
    seconds: float, deferred: Deferred[Result], error: Exception, reactor: Any
) -> Deferred[Result]:
    """Return the Deferred, which fails with ``error`` when it has not fired after ``seconds``."""

    def fail(_result: object, _timeout: float) -> NoReturn:
        raise error

    return deferred.addTimeout(seconds, reactor, onTimeoutCancel=fail)
