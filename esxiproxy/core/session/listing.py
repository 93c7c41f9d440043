"""Pages of the shared list of sessions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from esxiproxy.core.session.command import Selector
from esxiproxy.core.session.entry import SessionEntry


def page(
    entries: Iterable[SessionEntry], after: str, most: int | None, where: Selector | None
) -> Sequence[SessionEntry]:
    """Return the entries that a selector selects, the oldest first.

    ``after`` is the cursor of the last entry of the page before, and ``most`` the length of a page.
    """
    found = [entry for entry in entries if entry.cursor > after and (where is None or where.lists(entry))]
    found.sort(key=lambda entry: entry.cursor)
    return found if most is None else found[: max(0, most)]
