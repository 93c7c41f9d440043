"""A log without output, for Autobahn in a simulated host."""

from __future__ import annotations

from collections.abc import Callable


class NullLogger:
    """A logger that discards everything, because Autobahn logs request targets with their tickets."""

    def __getattr__(self, level: str) -> Callable[..., None]:
        return self._drop

    def _drop(self, *args: object, **kwargs: object) -> None:
        return None
