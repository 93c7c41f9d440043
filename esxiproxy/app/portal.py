"""The portal in the admin process: made of a configuration, and served on its private socket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred

from esxiproxy.app.private_site import PrivateSite
from esxiproxy.app.removed_users import RemovedUsers
from esxiproxy.authenticators.login_throttle import LoginThrottle
from esxiproxy.authenticators.session import SessionType, login_store
from esxiproxy.core.config.model import Config, Http, Listener
from esxiproxy.core.config.plugin_type import PluginSection
from esxiproxy.core.private_sites import PORTAL, PrivateSites
from esxiproxy.interfaces import IState
from esxiproxy.net.upstream.decision import Plugin
from esxiproxy.portal.api import PortalApi
from esxiproxy.portal.assets import Assets
from esxiproxy.portal.favourites import Favourites
from esxiproxy.portal.machine_rows import Catalogue
from esxiproxy.portal.machine_service import (
    IsFull,
    MintLink,
    NoMachines,
    Rights,
    Scope,
    VSpheres,
)
from esxiproxy.portal.settings import PortalListener, Provider
from esxiproxy.portal.site import PortalRoot, PortalSite
from esxiproxy.vsphere.service import VSphereService


@dataclass(frozen=True, slots=True)
class PortalParts:
    """The objects that the portal is made of besides those of the configuration.

    ``service`` is that for vCenter, ``rights`` returns the rights of a user, ``scope`` a value that is equal
    for users with the same rights, and ``mint`` makes links.  ``vspheres`` returns the vCenters that a
    listener leads to, and ``is_full`` whether all consoles of a machine are in use.
    """

    service: VSphereService | Any = field(default_factory=NoMachines)
    rights: Rights = lambda listener, principal, machine: ()
    scope: Scope = lambda listener, principal: (listener, principal.names, principal.groups)
    mint: MintLink | None = None
    vspheres: VSpheres = lambda listener: None
    is_full: IsFull | None = None


class PortalService(MultiService):
    """The portal of all listeners with ``http = portal``, on its socket from ``open`` on.

    ``plugins`` are the authenticators by their sections.
    """

    def __init__(
        self,
        config: Config,
        state: IState,
        plugins: Mapping[str, Plugin],
        parts: PortalParts,
        sites: PrivateSites,
        reactor: Any,
    ) -> None:
        super().__init__()
        self._catalogue = Catalogue(parts.service, parts.rights, parts.scope, parts.vspheres)
        favourites = Favourites(state, reactor)
        api = PortalApi(parts.service, self._catalogue, favourites, parts.mint, reactor, parts.is_full)
        listeners = {each.name: each for each in _listeners(config, state, plugins)}
        self._root = PortalRoot(listeners, api, Assets(), reactor)
        self._site = PrivateSite(sites, PORTAL, lambda: PortalSite(self._root, reactor), reactor)
        self._site.setServiceParent(self)
        self._removed_users = RemovedUsers(state, plugins, reactor)

    def open(self) -> None:
        """Serve the socket, when the authenticators are ready.  Raises StartupError."""
        self._catalogue.start()
        self._site.open()
        self._removed_users.setServiceParent(self)

    def stopService(self) -> Deferred[Any]:
        """End the event streams, answer the requests in flight, and then follow the machines no longer."""
        self._root.close_streams()
        stopping: Deferred[Any] = super().stopService()
        return stopping.addBoth(self._stopped)

    def _stopped(self, outcome: Any) -> Any:
        self._catalogue.stop()
        return outcome


def provider_sections(config: Config) -> Iterator[PluginSection]:
    """Yield the authenticators that login forms ask, which no listener of a worker has to name."""
    for listener in config.listeners:
        session = _session_of(listener)
        for name in () if session is None else session.settings["providers"]:
            yield config.authenticators[name]


def _listeners(config: Config, state: IState, plugins: Mapping[str, Plugin]) -> Iterator[PortalListener]:
    for listener in config.listeners:
        if listener.http is not Http.PORTAL:
            continue
        session, url = _session_of(listener), listener.public_url or ""
        if session is None:
            yield PortalListener(listener.name, url, embed=listener.embed)
            continue
        sections = [config.authenticators[name] for name in session.settings["providers"]]
        yield PortalListener(
            listener.name,
            url,
            login_store(session.settings, session.section, state),
            tuple(Provider(each.settings.name, plugins[each.section].instance) for each in sections),
            listener.embed,
            LoginThrottle(state, f"{session.section} failed logins"),
        )


def _session_of(listener: Listener) -> PluginSection | None:
    """Return the section of the logins at a listener with ``http = portal``."""
    if listener.http is not Http.PORTAL:
        return None
    return next((each for each in listener.authenticators if isinstance(each.type, SessionType)), None)
