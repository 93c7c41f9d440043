"""A cache of values that depend on one immutable object alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class IdentityCache(Generic[K, V]):
    """A cache of the results of ``compute``, by the identity of its argument, which is immutable.

    It is for arguments that are often the same objects, such as those of a configuration, and that
    are slow to hash or cannot be hashed.  Each entry refers to its argument, so an id is not used twice.
    When there are ``most`` entries, the next one replaces all of them.
    """

    __slots__ = ("_compute", "_known", "_most")

    def __init__(self, compute: Callable[[K], V], most: int = 256) -> None:
        self._compute = compute
        self._most = most
        self._known: dict[int, tuple[K, V]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __call__(self, argument: K) -> V:
        """Return the result for this object."""
        known = self._known.get(id(argument))
        if known is None:
            if len(self._known) >= self._most:
                self._known.clear()
            known = self._known[id(argument)] = argument, self._compute(argument)
        return known[1]
