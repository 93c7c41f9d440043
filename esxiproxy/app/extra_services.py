"""The services that run beside the proxy: the access log, the manhole and plugins."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, cast

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer

from esxiproxy.app.manhole import ManholeParts, ManholeSocket, SSHManhole
from esxiproxy.core.config.loader import Config
from esxiproxy.core.session.record import Record
from esxiproxy.core.session.session import Session
from esxiproxy.interfaces import ISessionObserver
from esxiproxy.ops.logs.access_log import AccessLog
from esxiproxy.plugins import load_service

Setting = tuple[str, Hashable]
"""The configuration key of a service and its value.  A service with another value is another service."""


class ServiceSlot(MultiService):
    """The parent of one service.

    Two services of one name have different parents, so an old one can stop while the new one runs.
    """

    def __init__(self, service: Any) -> None:
        super().__init__()
        self.service = service
        service.setServiceParent(self)

    @property
    def is_removed(self) -> bool:
        """Whether the service has a unix socket whose file was removed or replaced."""
        return bool(getattr(self.service, "is_removed", False))

    def stopService(self) -> Any:
        """Stop the service, unless it has been stopped or was never started."""
        running, self.running = self.running, 0
        return self.service.stopService() if running else None


ServiceSlots = Mapping[Setting, ServiceSlot]
_MANHOLE = ("manhole", "manhole_socket", "worker_shell")
"""The keys of the services of the manhole."""


@implementer(ISessionObserver)
class ExtraServices(MultiService):
    """The extra services of a configuration.

    It passes sessions to the access log, so it has to start before the listeners and to stop after the last
    session has ended.  ``manhole`` makes the services of the manhole.  Without it only the plugins of
    ``services`` run in this process.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        manhole: ManholeParts | None = None,
    ) -> None:
        super().__init__()
        self._manhole = manhole
        self._reactor = reactor
        self._slots: ServiceSlots = {}
        self._access_log: AccessLog | None = None

    def create(self, config: Config) -> None:
        """Create the services of the first configuration, before any of them runs."""
        self._set_services({setting: ServiceSlot(make()) for setting, make in self._wanted(config).items()})
        for slot in self._slots.values():
            slot.setServiceParent(self)

    async def start(self, config: Config, undo: AsyncExitStack) -> ServiceSlots:
        """Start the services that are new in a configuration, and return all of its services.

        A service that needs the address of an old one starts after that has stopped.  One whose unix socket
        was removed is replaced.  ``undo`` collects what
        has to be done if the reload fails.  Raises the error of a service that cannot start.
        """
        slots: dict[Setting, ServiceSlot] = {}
        for setting, make in self._wanted(config).items():
            if (known := self._slots.get(setting)) is not None and not known.is_removed:
                slots[setting] = known
                continue
            for old, slot in self._slots.items():
                if _same_address(old, setting):
                    undo.callback(_start, slot)
                    await self._stopped(slot)
            slots[setting] = slot = ServiceSlot(make())
            undo.push_async_callback(self._drop, slot)
            slot.setServiceParent(self)
        return slots

    async def commit(self, slots: ServiceSlots) -> None:
        """Make these the services of the proxy, and stop all others."""
        unused = [slot for setting, slot in self._slots.items() if slots.get(setting) is not slot]
        self._set_services(slots)
        for slot in unused:
            await self._drop(slot)

    def stopService(self) -> Deferred[Any]:
        super(MultiService, self).stopService()
        return DeferredList([Deferred.fromCoroutine(self._stopped(slot)) for slot in self._slots.values()])

    def stop_manhole(self) -> Deferred[Any]:
        """Close the sockets of the manhole, and the operators' connections."""
        slots = [slot for (key, _), slot in self._slots.items() if key in _MANHOLE]
        return DeferredList([Deferred.fromCoroutine(self._stopped(slot)) for slot in slots])

    # The observer

    def opened(self, session: Session) -> None:
        if self._access_log is not None:
            self._access_log.opened(session)

    def closed(self, record: Record) -> None:
        if self._access_log is not None:
            self._access_log.closed(record)

    def _set_services(self, slots: ServiceSlots) -> None:
        self._slots = slots
        found = [slot.service for (key, _), slot in slots.items() if key == "access_log"]
        self._access_log = found[0] if found else None

    def _wanted(self, config: Config) -> Mapping[Setting, Callable[[], Any]]:
        wanted: dict[Setting, Callable[[], Any]] = {}
        if config.access_log is not None and self._manhole is not None:
            wanted["access_log", config.access_log] = partial(AccessLog, config.access_log, self._reactor)
        for name in config.services:
            wanted["services", name] = partial(_make_plugin, name, config, self._reactor)
        for key, value, make in () if self._manhole is None else self._manhole.wanted(config):
            wanted[key, value] = make
        return wanted

    async def _drop(self, slot: ServiceSlot) -> None:
        await self._stopped(slot)
        slot.disownServiceParent()

    async def _stopped(self, slot: ServiceSlot) -> None:
        try:
            await maybeDeferred(cast(Any, slot.stopService))
        except CancelledError:
            self._log.error(
                "timed out waiting for {service!r} to stop; the shutdown continues without it",
                service=slot.service,
            )
        except Exception:
            self._log.failure(
                "cannot stop {service!r}; the shutdown continues without it", service=slot.service
            )


def _start(slot: ServiceSlot) -> None:
    slot.privilegedStartService()
    slot.startService()


def _make_plugin(name: str, config: Config, reactor: Any) -> Any:
    return load_service(name)(config, reactor)


def _same_address(old: Setting, new: Setting) -> bool:
    """Return whether both services are manholes on one address, of which only one can run."""
    before, after = old[1], new[1]
    return (
        isinstance(before, SSHManhole | ManholeSocket)
        and isinstance(after, SSHManhole | ManholeSocket)
        and before.endpoint == after.endpoint
    )
