"""The slow-down of logins from a client network, which is counted in the shared state."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from esxiproxy.core.errors import AccessDenied, StateUnavailable
from esxiproxy.interfaces import IState

FREE = 5
"""Failed logins of a network within a minute after which further ones have to wait."""
WINDOW = 60.0
"""Seconds for which failed logins are counted, and the longest time to wait."""
MAX_ALONE = 4096
"""Networks whose failed logins a process counts alone while the state is away."""
_ATTEMPTS = 16
"""Attempts to count a failed login before other processes have counted theirs."""
FIRST_WAIT = 2.0
"""Seconds to wait after the first failed login that is not free; each further one doubles them."""


@dataclass(frozen=True, slots=True)
class _Failures:
    """The failed logins of a network: their number, and the times of day that they end and block until."""

    count: int = 0
    expires: float = 0.0
    until: float = 0.0

    @classmethod
    def parse(cls, text: str | None) -> _Failures:
        """Return the failures in a value of the state; none for a value of another version."""
        try:
            count, expires, until = (text or "").split()
            return cls(int(count), float(expires), float(until))
        except ValueError:
            return cls()

    def __str__(self) -> str:
        return f"{self.count} {self.expires!r} {self.until!r}"

    def after(self, now: float) -> _Failures:
        """Return the failures with one more."""
        expires = self.expires if self.count and self.expires > now else now + WINDOW
        count = self.count + 1 if self.expires > now else 1
        if count < FREE:
            return _Failures(count, expires)
        wait = min(WINDOW, FIRST_WAIT * 2.0 ** min(count - FREE, 10))
        return _Failures(count, now + wait + WINDOW, now + wait)


class LoginThrottle:
    """The slow-down of one authenticator: it is asked before a password is hashed.

    After FREE failures within a minute a network waits, longer with each further failure.  A good login does
    not shorten this, since a client with one password could try others.  ``space`` is that of the state.
    ``time_of_day`` is the time of the expiries there.  While a state that ``admits_when_down`` is away, this
    process counts alone.
    """

    def __init__(self, state: IState, space: str, time_of_day: Callable[[], float] = time.time) -> None:
        self._state = state
        self._space = space
        self._time_of_day = time_of_day
        self._alone: OrderedDict[str, _Failures] = OrderedDict()

    async def check(self, network: str) -> None:
        """Return if a password from this network may be hashed.  Raises AccessDenied with status 429."""
        try:
            failures = _Failures.parse(await self._state.get(self._space, network))
        except StateUnavailable as error:
            if not (self._state.admits_when_down and error.is_away):
                raise
            failures = self._alone.get(network, _Failures())
        wait = min(failures.until - self._time_of_day(), WINDOW)  # the time of day may have been set back
        if wait > 0:
            raise too_many_logins(wait)

    async def failed(self, network: str) -> float:
        """Count a failed login, and return the seconds that this network has to wait for the next one."""
        now = self._time_of_day()
        try:
            failures = await self._count(network, now)
        except StateUnavailable as error:
            if not (self._state.admits_when_down and error.is_away):
                raise
            failures = self._alone.get(network, _Failures()).after(now)
            self._alone[network] = failures
            self._alone.move_to_end(network)
            while len(self._alone) > MAX_ALONE:
                self._alone.popitem(last=False)
        return max(0.0, failures.until - now)

    async def _count(self, network: str, now: float) -> _Failures:
        """Count a failed login in the state, where other processes may count one at the same moment."""
        attempts = 0
        while True:
            found = await self._state.get(self._space, network)
            failures = _Failures.parse(found).after(now)
            value, expires = str(failures), failures.expires
            attempts += 1
            if attempts > _ATTEMPTS:  # so many others have counted theirs
                await self._state.put(self._space, network, value, expires)
                return failures
            if await self._state.put(self._space, network, value, expires, found is None, found):
                return failures


def too_many_logins(wait: float) -> AccessDenied:
    """Return the refusal of a login that comes too early, with the seconds to wait."""
    seconds = max(1, ceil(wait))
    error = AccessDenied(f"too many failed logins from this network: try again in {seconds} s", status=429)
    error.fields = ((b"Retry-After", str(seconds).encode()),)
    return error
