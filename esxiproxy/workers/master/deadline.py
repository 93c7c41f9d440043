"""A time within which something has to have happened."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import Deferred

Result = TypeVar("Result")


def with_timeout(
    seconds: float, deferred: Deferred[Result], error: Exception, reactor: Any
) -> Deferred[Result]:
    """The same Deferred, which fails with this error when it takes longer."""

    def late(_result: object, _timeout: float) -> NoReturn:
        raise error

    return deferred.addTimeout(seconds, reactor, onTimeoutCancel=late)
