"""A null logger for Autobahn's protocols."""

from __future__ import annotations

from typing import Any


class NullLogger:
    """A logger that discards every message.

    Autobahn logs request targets, which contain tickets, and formats its arguments on every call.  The record
    of a session has what is needed.
    """

    def debug(self, *_args: Any, **_kwargs: Any) -> None:
        """Discard the message."""

    trace = info = warn = error = critical = failure = debug
