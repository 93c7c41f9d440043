"""The routers and authenticators of a configuration: creates them, starts them, and stops the old ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Protocol, cast

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from esxiproxy.app.file_watch import FileWatch
from esxiproxy.app.plugin_threads import PluginThreads
from esxiproxy.core.config.model import Config, Listener
from esxiproxy.core.config.plugin_type import PluginSection
from esxiproxy.core.coroutines import awaited_call
from esxiproxy.core.private_sites import PrivateSites
from esxiproxy.core.session.command import Selector
from esxiproxy.core.startup import StartupError
from esxiproxy.interfaces import IState
from esxiproxy.net.upstream.decision import Plugin
from esxiproxy.plugins import Context, PluginType

_READY_TIMEOUT = 10.0
"""Seconds that a plugin has to become ready."""
_RETIRE_INTERVAL = 1.0
"""Seconds between two checks for sessions that an old plugin may be asked about."""


class PluginService(MultiService):
    """A router or an authenticator with what it uses: its threads, its watched files, its own service."""

    def __init__(self, plugin: Plugin, type_name: str, parts: Iterable[Any]) -> None:
        super().__init__()
        self.plugin = plugin
        self.type_name = type_name
        self._parts = tuple(parts)
        for part in self._parts:
            part.setServiceParent(self)

    @property
    def has_nothing_to_stop(self) -> bool:
        """Whether the plugin has no service, no watched file and no thread."""
        return all(getattr(part, "is_unused", False) for part in self._parts)


Instances = Mapping[str, PluginService]
"""The routers and authenticators of a configuration by their section."""


class ServedSessions(Protocol):
    """The part of a proxy that routers and authenticators need."""

    state: IState

    @property
    def sessions(self) -> Iterable[Any]:
        """The live sessions."""

    def end_sessions(self, selector: Selector, reason: str, section: str = "") -> None:
        """Close the sessions that a selector selects."""


class Plugins(MultiService):
    """The routers and authenticators that are in use, one instance for each section."""

    _log = Logger()

    def __init__(
        self, reactor: Any, proxy: ServedSessions, http: Any, sites: PrivateSites | None = None
    ) -> None:
        super().__init__()
        self._sites = sites
        self._reactor = reactor
        self._proxy = proxy
        self._http = http
        self._instances: Instances = {}

    def create(self, config: Config, more: Iterable[PluginSection] = ()) -> Instances:
        """Return an instance for each section that a listener or [admin] of this configuration names.

        ``more`` are further sections.
        Raises StartupError, which names the section, for an error in a plugin.
        """
        found: dict[str, PluginService] = {}
        for section in (*_sections(config), *more):
            if section.section not in found:
                found[section.section] = self._create(section, config)
        return found

    def of(self, instances: Instances, listener: Listener) -> tuple[tuple[Plugin, ...], tuple[Plugin, ...]]:
        """Return the routers and the authenticators of a listener."""

        def found(sections: Iterable[PluginSection]) -> tuple[Plugin, ...]:
            return tuple(instances[section.section].plugin for section in sections)

        return found(listener.routers), found(listener.authenticators)

    def begin(self, instances: Instances) -> None:
        """Use the instances of the first configuration from the start of this service on.

        Sessions wait until they are ready.
        """
        for instance in instances.values():
            instance.setServiceParent(self)
            instance.plugin.ready = Deferred() if hasattr(instance.plugin.instance, "ready") else None
        self._instances = instances

    async def ready(self) -> bool:
        """Wait until the instances of the first configuration are ready, and return True.

        Raises StartupError.
        """
        for section, instance in self._instances.items():
            try:
                await _ready(section, instance.plugin.instance, self._reactor)
            finally:
                ready, instance.plugin.ready = instance.plugin.ready, None
                if ready is not None:
                    ready.callback(None)
        return True

    async def start(self, instances: Instances, undo: AsyncExitStack) -> None:
        """Start the instances of a reload and wait until they are ready.  Raises StartupError.

        ``undo`` collects what has to be done if the reload fails.
        """
        for section, instance in instances.items():
            undo.push_async_callback(self._drop, section, instance)
            try:
                instance.setServiceParent(self)
            except Exception as error:
                raise StartupError(
                    f"[{section}] cannot be started: {error or type(error).__name__}"
                ) from error
        for section, instance in instances.items():
            await _ready(section, instance.plugin.instance, self._reactor)

    def commit(self, instances: Instances, seconds: float) -> None:
        """Use these instances for new connections.

        For ``seconds`` an old one may get a session of a connection that was accepted before.  It ends when
        the last of its sessions has ended.
        """
        old, self._instances = self._instances, instances
        for instance in old.values():
            if instance.has_nothing_to_stop:
                instance.disownServiceParent()
        old = {section: each for section, each in old.items() if each.parent is not None}
        if not old:
            return
        retiring = Deferred.fromCoroutine(self._retire(old, seconds))
        retiring.addErrback(lambda failure: self._log.failure("cannot stop an old plugin", failure))

    async def _retire(self, old: Instances, seconds: float) -> None:
        """Stop the old instances after these seconds, once no session is left that they may know."""
        end = self._reactor.seconds() + seconds
        while self.running and self._reactor.seconds() < end:
            await deferLater(self._reactor, _RETIRE_INTERVAL)
        before = {live.session.id for live in self._proxy.sessions}
        while self.running and any(live.session.id in before for live in self._proxy.sessions):
            await deferLater(self._reactor, _RETIRE_INTERVAL)
        for section, instance in old.items():
            await self._drop(section, instance)

    async def _drop(self, section: str, instance: PluginService) -> None:
        if instance.parent is None:
            return
        try:
            await maybeDeferred(instance.disownServiceParent)
        except Exception:
            self._log.failure("[{section}] failed while it stopped", section=section)

    def _create(self, section: PluginSection, config: Config) -> PluginService:
        """Create the instance of a section.  Raises StartupError."""
        before = self._instances.get(section.section)
        threads = PluginThreads(section.section, self._reactor)
        files = FileWatch(section.section, self._reactor)
        context = Context(
            section=section.section,
            clock=self._reactor,
            state=self._proxy.state,
            upstreams=config.upstreams,
            http=self._http,
            log=Logger(namespace=f"esxiproxy.plugin.{section.section.replace(' ', '.')}"),
            previous=before.plugin.instance if before and before.type_name == section.type.name else None,
            in_thread=threads.call,
            watch=files.watch,
            end_sessions=partial(self._end_sessions, section.section),
            sites=self._sites,
        )
        try:
            instance = cast(PluginType, section.type).create(section.settings, context)
        except Exception as error:
            self._log.debug("[{section}] {error!r}", section=section.section, error=error)
            raise StartupError(
                f"[{section.section}] cannot be created: {error or type(error).__name__}"
            ) from error
        parts = [threads, files, *([instance] if IService.providedBy(instance) else [])]
        return PluginService(_plugin(section, instance), section.type.name, parts)

    async def _end_sessions(self, section: str, selector: Selector, reason: str) -> None:
        self._proxy.end_sessions(selector, reason, section)


def _sections(config: Config) -> Iterator[PluginSection]:
    for listener in config.listeners:
        yield from (*listener.routers, *listener.authenticators)
    if config.admin is not None:
        yield from config.admin.authenticators


def _plugin(section: PluginSection, instance: object) -> Plugin:
    """Return the instance with the settings of its section that the proxy itself applies."""
    keys, settings = section.settings.keys, section.settings
    return Plugin(
        section.section,
        instance,
        reauthenticate=settings["reauthenticate"] if "reauthenticate" in keys else None,
        grace=settings["reauthenticate_grace"] if "reauthenticate_grace" in keys else 0.0,
    )


async def _ready(section: str, instance: object, clock: Any) -> None:
    """Wait until a plugin is ready, for at most 10 s.  Raises StartupError."""
    ready = getattr(instance, "ready", None)
    if ready is None:
        return
    waiting = Deferred.fromCoroutine(awaited_call(ready))
    try:
        await waiting.addTimeout(_READY_TIMEOUT, clock)
    except TimeoutError:
        raise StartupError(f"[{section}] was not ready within {_READY_TIMEOUT:g} s") from None
    except Exception as error:
        raise StartupError(f"[{section}] cannot be started: {error or type(error).__name__}") from error
