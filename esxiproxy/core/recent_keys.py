"""Keys that are remembered for some seconds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


class RecentKeys:
    """The keys that were added within the last ``lifetime`` seconds of the clock ``now``."""

    def __init__(self, lifetime: float, now: Callable[[], float]) -> None:
        self._lifetime = lifetime
        self._now = now
        self._added: OrderedDict[str, float] = OrderedDict()
        """The times at which the keys were added, in their order."""

    def add(self, key: str) -> None:
        """Remember a key from now on."""
        self._forget()
        self._added[key] = self._now()
        self._added.move_to_end(key)

    def discard(self, key: str) -> None:
        """Forget a key, if it is remembered."""
        self._added.pop(key, None)

    def __contains__(self, key: str) -> bool:
        self._forget()
        return key in self._added

    def __len__(self) -> int:
        self._forget()
        return len(self._added)

    def _forget(self) -> None:
        before = self._now() - self._lifetime
        while self._added and next(iter(self._added.values())) <= before:
            self._added.popitem(last=False)
