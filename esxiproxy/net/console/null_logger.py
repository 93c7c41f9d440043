"""A logger that says nothing, for Autobahn."""

from __future__ import annotations

from typing import Any


class NullLogger:
    """Stands where Autobahn's protocols have their logger.

    Autobahn logs request targets, which are tickets, and formats its arguments on every call whether anybody
    listens or not.  What is worth telling of a session stands in its record.
    """

    def debug(self, *_args: Any, **_kwargs: Any) -> None:
        """Say nothing."""

    trace = info = warn = error = critical = failure = debug
