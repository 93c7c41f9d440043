"""The log that Autobahn writes to in a simulated host."""

from __future__ import annotations

from collections.abc import Callable


class NullLogger:
    """A log that keeps nothing: Autobahn's lines hold request targets, and those hold tickets."""

    def __getattr__(self, level: str) -> Callable[..., None]:
        return self._drop

    def _drop(self, *args: object, **kwargs: object) -> None:
        return None
