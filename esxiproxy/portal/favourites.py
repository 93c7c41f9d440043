"""The favourite machines of each user, in the shared state."""

from __future__ import annotations

import json
from collections import OrderedDict
from math import inf

from twisted.internet.interfaces import IReactorTime

from esxiproxy.core.routing import Principal
from esxiproxy.core.sealing import key_of
from esxiproxy.core.strict_json import strict_json
from esxiproxy.interfaces import IState

SPACE = "favourites"
"""The space of the state, by the digests of the users' names."""
MOST = 200
"""Favourites of one user."""
_KEPT = 60.0
"""Seconds after which the favourites are read again, since another machine may have changed them."""
_ATTEMPTS = 16
"""Attempts to store a change before another one is stored."""
_MAX_USERS = 2048
"""Users whose favourites are kept: more than have event streams, each of which asks once a second."""


class TooManyFavourites(Exception):
    """A user has as many favourites as are stored."""


class Favourites:
    """The ids of the favourite machines of users."""

    def __init__(self, state: IState, clock: IReactorTime) -> None:
        self._state = state
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, tuple[str, ...]]] = OrderedDict()

    async def of(self, principal: Principal) -> tuple[str, ...]:
        """Return the favourites of a user.  Raises StateUnavailable."""
        key = key_of(principal.names[1])
        known = self._known.get(key)
        if known is not None and self._clock.seconds() - known[0] < _KEPT:
            self._known.move_to_end(key)
            return known[1]
        found = _parse(await self._state.get(SPACE, key))
        newer = self._known.get(key)
        if newer is not None and newer is not known:  # they were changed or read meanwhile
            return newer[1]
        return self._keep(key, found)

    async def set(self, principal: Principal, machine: str, wanted: bool) -> tuple[str, ...]:
        """Add or remove a favourite, and return all of them.

        Other pages of the user may change them at the same time.  Raises TooManyFavourites or
        StateUnavailable.
        """
        key = key_of(principal.names[1])
        attempts = 0
        while True:
            stored = await self._state.get(SPACE, key)
            found = _parse(stored)
            if wanted == (machine in found):
                return self._keep(key, found)
            changed = (*found, machine) if wanted else tuple(each for each in found if each != machine)
            if len(changed) > MOST:
                raise TooManyFavourites
            attempts += 1
            is_last = attempts > _ATTEMPTS  # so many others have stored theirs
            condition = () if is_last else (stored is None, stored)
            if await self._state.put(SPACE, key, json.dumps(changed), inf, *condition):
                return self._keep(key, changed)

    def _keep(self, key: str, found: tuple[str, ...]) -> tuple[str, ...]:
        self._known[key] = self._clock.seconds(), found
        self._known.move_to_end(key)
        if len(self._known) > _MAX_USERS:
            self._known.popitem(last=False)
        return found


def _parse(text: str | None) -> tuple[str, ...]:
    """Return the favourites in a value of the state; none for one of another version."""
    try:
        found = strict_json((text or "[]").encode())
    except ValueError:
        return ()
    return tuple(map(str, found[:MOST])) if isinstance(found, list) else ()
