"""Reads a whole space of the shared state."""

from __future__ import annotations

from esxiproxy.interfaces import IState

PAGE = 1000
"""Items that are read at once."""
MAX_ITEMS = 20_000
"""Items of a space that are read."""


async def all_items(state: IState, space: str) -> list[tuple[str, str]]:
    """Return the keys and values of a space, at most ``MAX_ITEMS`` of them.  Raises StateUnavailable."""
    found: list[tuple[str, str]] = []
    while len(found) < MAX_ITEMS:
        page = await state.items(space, found[-1][0] if found else "", PAGE)
        found.extend(page)
        if len(page) < PAGE:
            break
    return found
