"""Rectangles of the screen, and the set of changed rectangles of a viewer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

MAX_RECTS: Final = 32
"""Maximum of rectangles; a region with more becomes its bounding box, which bounds its memory."""


class Rect(NamedTuple):
    """An axis-parallel rectangle in pixels; empty when it has no width or no height."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def bottom(self) -> int:
        return self.y + self.height

    @property
    def empty(self) -> bool:
        return self.width <= 0 or self.height <= 0

    def intersection(self, other: Rect) -> Rect:
        """Return the area that both cover; it may be empty."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        return Rect(x, y, min(self.right, other.right) - x, min(self.bottom, other.bottom) - y)

    def union(self, other: Rect) -> Rect:
        """Return the smallest rectangle that covers both."""
        x, y = min(self.x, other.x), min(self.y, other.y)
        return Rect(x, y, max(self.right, other.right) - x, max(self.bottom, other.bottom) - y)

    def without(self, other: Rect) -> Iterator[Rect]:
        """Yield the parts of this rectangle outside of the other, at most four."""
        cut = self.intersection(other)
        if cut.empty:
            yield self
            return
        pieces = (
            Rect(self.x, self.y, self.width, cut.y - self.y),
            Rect(self.x, cut.bottom, self.width, self.bottom - cut.bottom),
            Rect(self.x, cut.y, cut.x - self.x, cut.height),
            Rect(cut.right, cut.y, self.right - cut.right, cut.height),
        )
        yield from (piece for piece in pieces if not piece.empty)


class Region:
    """A bounded set of disjoint rectangles that have changed since the last update."""

    def __init__(self) -> None:
        self._rects: list[Rect] = []

    def __iter__(self) -> Iterator[Rect]:
        return iter(self._rects)

    def __bool__(self) -> bool:
        return bool(self._rects)

    def add(self, rect: Rect) -> None:
        """Add a rectangle."""
        if rect.empty:
            return
        self._cut(rect)
        self._rects.append(rect)
        if len(self._rects) > MAX_RECTS:
            box = self._rects[0]
            for other in self._rects:
                box = box.union(other)
            self._rects = [box]

    def take(self, window: Rect) -> list[Rect]:
        """Remove and return the parts inside the window."""
        inside = [part for rect in self._rects if not (part := rect.intersection(window)).empty]
        if inside:
            self._cut(window)
        return inside

    def _cut(self, rect: Rect) -> None:
        self._rects = [piece for known in self._rects for piece in known.without(rect)]
