"""The services that run beside the proxy: access log, manhole, plugins."""

from __future__ import annotations

import socket
from collections.abc import Callable, Hashable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, cast

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer

from esxiproxy.core.config.loader import Config
from esxiproxy.core.config.model import MANHOLE, Manhole
from esxiproxy.core.session.record import Record
from esxiproxy.core.session.session import Session
from esxiproxy.interfaces import ISessionObserver
from esxiproxy.ops.logs.access_log import AccessLog
from esxiproxy.ops.manhole.commands import LiveSessionsView
from esxiproxy.ops.manhole.service import ManholeService
from esxiproxy.plugins import SERVICES, plugin

Setting = tuple[str, Hashable]
"""The key that wants a service, and what it says there: with another one it is another service."""


class ServiceSlot(MultiService):
    """Where one service stands: two of one name may be there while one takes over from the other."""

    def __init__(self, service: Any) -> None:
        super().__init__()
        self.service = service
        service.setServiceParent(self)

    def stopService(self) -> Any:
        """What is stopped already, or has never run, is not stopped again."""
        running, self.running = self.running, 0
        return self.service.stopService() if running else None


Places = Mapping[Setting, ServiceSlot]


@implementer(ISessionObserver)
class ExtraServices(MultiService):
    """Runs what a configuration wants beside the proxy.

    The access log hears of sessions through it: so it has to be started before the listeners, and stopped
    after the sessions.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, sessions: Callable[[], LiveSessionsView], inherited: Mapping[str, socket.socket]
    ) -> None:
        super().__init__()
        self._inherited = inherited
        self._reactor = reactor
        self._sessions = sessions
        self._slots: Places = {}
        self._config: Config | None = None
        self._access_log: AccessLog | None = None

    def create(self, config: Config) -> None:
        """Make everything, before anything runs."""
        self._log_failed(
            {setting: ServiceSlot(make()) for setting, make in self._wanted(config).items()}, config
        )
        for place in self._slots.values():
            place.setServiceParent(self)

    async def start(self, config: Config, undo: AsyncExitStack) -> Places:
        """Start what is new here; what is there already stays as it is.

        A service that wants the address of an old one has to wait until that one is stopped.  Raises what
        cannot be started.
        """
        places: dict[Setting, ServiceSlot] = {}
        for setting, make in self._wanted(config).items():
            if setting in self._slots:
                places[setting] = self._slots[setting]
                continue
            for old, place in self._slots.items():
                if _same_address(old, setting):
                    undo.callback(_start, place)
                    await self._stopped(place)
            places[setting] = place = ServiceSlot(make())
            undo.push_async_callback(self._drop, place)
            place.setServiceParent(self)
        return places

    async def commit(self, places: Places, config: Config) -> None:
        """From now on this is what runs: everything else is stopped."""
        gone = [place for setting, place in self._slots.items() if setting not in places]
        self._log_failed(places, config)
        for place in gone:
            await self._drop(place)

    def stopService(self) -> Deferred[Any]:
        super(MultiService, self).stopService()
        return DeferredList([Deferred.fromCoroutine(self._stopped(place)) for place in self._slots.values()])

    def stop_manhole(self) -> Deferred[Any]:
        """Close the port of the manhole, and the operators' connections."""
        places = [place for (key, _), place in self._slots.items() if key == "manhole"]
        return DeferredList([Deferred.fromCoroutine(self._stopped(place)) for place in places])

    # The observer

    def opened(self, session: Session) -> None:
        if self._access_log is not None:
            self._access_log.opened(session)

    def closed(self, record: Record) -> None:
        if self._access_log is not None:
            self._access_log.closed(record)

    def _log_failed(self, places: Places, config: Config) -> None:
        self._slots, self._config = places, config
        found = [place.service for (key, _), place in places.items() if key == "access_log"]
        self._access_log = found[0] if found else None

    def _wanted(self, config: Config) -> Mapping[Setting, Callable[[], Any]]:
        wanted: dict[Setting, Callable[[], Any]] = {}
        if config.access_log is not None:
            wanted["access_log", config.access_log] = partial(AccessLog, config.access_log, self._reactor)
        for name in config.beside:
            wanted["beside", name] = partial(_plugin, name, config, self._reactor)
        if config.manhole is not None:
            wanted["manhole", config.manhole] = partial(self._manhole, config.manhole)
        return wanted

    def _manhole(self, manhole: Manhole) -> ManholeService:
        return ManholeService(
            manhole.endpoint,
            manhole.keys,
            manhole.host_key,
            self._sessions(),
            self._reactor,
            lambda: () if self._config is None else self._config.upstreams.values(),
            self._inherited.get(MANHOLE),
        )

    async def _drop(self, place: ServiceSlot) -> None:
        await self._stopped(place)
        place.disownServiceParent()

    async def _stopped(self, place: ServiceSlot) -> None:
        try:
            await maybeDeferred(cast(Any, place.stopService))
        except CancelledError:
            self._log.error("nobody waits any longer for {service!r} to stop", service=place.service)
        except Exception:
            self._log.failure("a service did not stop as it should: {service!r}", service=place.service)


def _start(place: ServiceSlot) -> None:
    place.privilegedStartService()
    place.startService()


def _plugin(name: str, config: Config, reactor: Any) -> Any:
    return plugin(SERVICES, name)(config, reactor)


def _same_address(old: Setting, new: Setting) -> bool:
    """Two manholes cannot have one address at a time."""
    before, after = old[1], new[1]
    return isinstance(before, Manhole) and isinstance(after, Manhole) and before.endpoint == after.endpoint
