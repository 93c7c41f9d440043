"""Small pictures of the screens of machines, of which vCenter makes few at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from esxiproxy.core.errors import LimitReached, ServiceUnavailable
from esxiproxy.vsphere.machine import Machine

INTERVAL = 0.5
"""Seconds between two calls to one vCenter."""
MAX_WAITING = 40
"""Pictures of one vCenter that wait for their turn."""
FRESH = 45.0
"""Seconds for which a picture is used again."""
MAX_PICTURE = 512 << 10
"""Bytes of a picture."""
_MAX_KEPT = 64
_PNG = b"\x89PNG\r\n\x1a\n"


class Thumbnails:
    """The pictures, each of which is asked for once at a time.

    ``ask`` returns that of a machine.
    """

    def __init__(self, ask: Callable[[Any], Awaitable[bytes]], clock: IReactorTime) -> None:
        self._ask = ask
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._asked: dict[str, list[Deferred[bytes]]] = {}
        self._next: dict[str, float] = {}
        self._waiting: dict[str, int] = {}

    def get(self, machine: Machine) -> Deferred[bytes]:
        """Return a picture of a machine.  Fails with a SessionError; it may be cancelled."""
        kept = self._kept.get(machine.id)
        if kept is not None and self._clock.seconds() - kept[0] < FRESH:
            return succeed(kept[1])
        waiters = self._asked.get(machine.id)
        result: Deferred[bytes] = Deferred(lambda _: self._drop(machine.id, result))
        if waiters is not None:
            waiters.append(result)
            return result
        if self._waiting.get(machine.vsphere, 0) >= MAX_WAITING:
            result.errback(LimitReached(f"{MAX_WAITING} pictures of this vCenter are waited for already"))
            return result
        self._asked[machine.id] = [result]
        asking = Deferred.fromCoroutine(self._make(machine))
        asking.addBoth(self._made, machine.id)
        return result

    async def _make(self, machine: Machine) -> bytes:
        name, now = machine.vsphere, self._clock.seconds()
        self._waiting[name] = self._waiting.get(name, 0) + 1
        turn = max(now, self._next.get(name, now))
        self._next[name] = turn + INTERVAL
        try:
            if turn > now:
                await deferLater(self._clock, turn - now)
        finally:
            self._waiting[name] -= 1
        if not self._asked[machine.id]:  # no page shows it any more
            return b""
        picture = await self._ask(machine)
        if not picture.startswith(_PNG) or len(picture) > MAX_PICTURE:
            raise ServiceUnavailable(f"vCenter {name} answered with no PNG, or with a large one")
        self._kept[machine.id] = self._clock.seconds(), picture
        self._kept.move_to_end(machine.id)
        if len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
        return picture

    def _made(self, outcome: Any, machine: str) -> None:
        for waiter in self._asked.pop(machine):
            waiter.callback(outcome)

    def _drop(self, machine: str, waiter: Deferred[bytes]) -> None:
        waiters = self._asked.get(machine, [])
        if waiter in waiters:
            waiters.remove(waiter)
