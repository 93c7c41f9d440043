"""The IP addresses of host names, looked up in the background for those who list hosts."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from esxiproxy.core.networks import canonical

LIFE = 60.0
"""Seconds after which a name is looked up again, if it is still wanted."""
MAX_NAMES = 1000
"""Names that are looked up.  The addresses of others are known from open consoles only."""


class ResolvedNames:
    """The addresses of names, as the last lookup has found them.

    One name at a time is looked up, in a thread.  A lookup that fails keeps the addresses of the one before.
    """

    _log = Logger()

    def __init__(self, in_thread: Callable[..., Awaitable[Any]], seconds: Callable[[], float]) -> None:
        self._in_thread = in_thread
        self._seconds = seconds
        self._found: dict[str, tuple[str, ...]] = {}
        self._expires: dict[str, float] = {}
        self._is_running = False

    def addresses(self, name: str) -> Sequence[str]:
        """Return the known addresses of a name."""
        return self._found.get(name, ())

    def resolve(self, names: Iterable[str]) -> None:
        """Begin to look up the names whose addresses are not known or too old; all others are forgotten."""
        wanted = list(dict.fromkeys(names))[:MAX_NAMES]
        self._found = {name: self._found[name] for name in wanted if name in self._found}
        self._expires = {name: self._expires[name] for name in wanted if name in self._expires}
        now = self._seconds()
        due = [name for name in wanted if self._expires.get(name, now) <= now]
        if due and not self._is_running:
            self._is_running = True
            running = Deferred.fromCoroutine(self._look_up(due))
            running.addErrback(lambda failure: self._log.failure("cannot look up names of hosts", failure))
            running.addBoth(self._done)

    async def _look_up(self, names: Sequence[str]) -> None:
        for name in names:
            if found := await self._in_thread(_addresses, name):
                self._found[name] = found
            self._expires[name] = self._seconds() + LIFE

    def _done(self, _result: object) -> None:
        self._is_running = False


def _addresses(name: str) -> tuple[str, ...]:
    """Return the addresses of a name, in the form in which connections are counted; none if it has none."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(canonical(str(address[0])) for *_rest, address in found))
