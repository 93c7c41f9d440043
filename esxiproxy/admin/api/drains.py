"""The actions ``drain`` and ``undrain``."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Any, Protocol

from esxiproxy.admin.call import ApiError, Call
from esxiproxy.admin.control import Control
from esxiproxy.core.session.drain import MAX_NAME, Drain, DrainKind, InvalidDrain
from esxiproxy.core.session.drain_table import UnknownMachine


class Drainer(Protocol):
    """The drains of this process and of the state, such as ``ActiveDrains``."""

    def drain(
        self, kind: DrainKind, name: str, machine: str, end: float, by: str, reason: str
    ) -> Awaitable[list[Drain]]:
        """Drain an object, and return its drains.  Raises InvalidDrain or UnknownMachine."""

    def undrain(self, kind: DrainKind, name: str, machine: str) -> Awaitable[list[Drain]]:
        """Let an object take consoles again, and return the drains that are removed."""


class DrainActions:
    """The actions that drain and undrain.  ``shown`` returns all drains as the API lists them."""

    def __init__(
        self,
        control: Control,
        drainer: Drainer,
        shown: Callable[[Sequence[Drain]], Awaitable[list[dict[str, Any]]]],
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._control = control
        self._drainer = drainer
        self._shown = shown
        self._time_of_day = time_of_day

    async def drain(self, call: Call) -> Any:
        """Let an object take no new consoles, and close the running ones later if that is asked for."""
        kind, name, machine = self._subject(call)
        seconds = call.body.get("end_after")
        end = inf if seconds is None else self._time_of_day() + seconds
        try:
            drained = await self._drainer.drain(
                kind, name, machine, end, call.actor.name[:MAX_NAME], call.body["reason"]
            )
        except InvalidDrain as error:  # such as a host whose name is empty without its final dot
            raise ApiError(404, f"there is no such {kind.value}: {error}") from None
        except UnknownMachine as error:
            raise ApiError(404, str(error)) from None
        return (await self._shown(drained))[0]

    async def undrain(self, call: Call) -> Any:
        """Let an object take new consoles again, and return the drains that were removed."""
        kind, name, machine = self._subject(call, must_exist=False)
        try:
            removed = await self._drainer.undrain(kind, name, machine)
        except InvalidDrain as error:  # such as a host whose name is empty without its final dot
            raise ApiError(404, f"there is no such {kind.value}: {error}") from None
        if not removed:
            raise ApiError(404, f"this {kind.value} is not drained")
        return {"drains": await self._shown(removed)}

    def _subject(self, call: Call, must_exist: bool = True) -> tuple[DrainKind, str, str]:
        """Return the kind, the name and the machine of a request.  Raises ApiError."""
        kind, name = DrainKind(call.body["kind"]), call.body.get("name", "")
        machine = call.body.get("machine", "")
        if must_exist and not machine:
            self._check_known(kind, name)
        return kind, name, machine

    def _check_known(self, kind: DrainKind, name: str) -> None:
        config = self._control.config
        if kind is DrainKind.LISTENER and name not in [each.name for each in config.listeners]:
            raise ApiError(404, "the configuration has no listener of this name")
        if kind is DrainKind.UPSTREAM and name not in config.upstreams:
            raise ApiError(404, "the configuration has no upstream of this name")
