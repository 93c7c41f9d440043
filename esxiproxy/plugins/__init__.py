"""Plugins: the types of routers and authenticators, and services, of this package and of others.

This module is public.  A package declares a plugin as an entry point, in its pyproject.toml or setup.cfg, of
one of these groups:

``esxiproxy.routers``, ``esxiproxy.authenticators``
    a :class:`PluginType`, whose ``name`` is that of the entry point;
``esxiproxy.services``
    a callable that takes the Config and the reactor, and returns a Twisted IService.  A reload keeps the
    service while its name is among those in ``services``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from esxiproxy.core.config.errors import BadValue as BadValue
from esxiproxy.core.config.key import AUTHENTICATOR as AUTHENTICATOR
from esxiproxy.core.config.key import DURATION as DURATION
from esxiproxy.core.config.key import DURATION_OR_OFF as DURATION_OR_OFF
from esxiproxy.core.config.key import NAME as NAME
from esxiproxy.core.config.key import ROUTER as ROUTER
from esxiproxy.core.config.key import TEMPLATE as TEMPLATE
from esxiproxy.core.config.key import Key as Key
from esxiproxy.core.config.key import SectionKind as SectionKind
from esxiproxy.core.config.key import Type as Type
from esxiproxy.core.config.key import choice as choice
from esxiproxy.core.config.key import path as path
from esxiproxy.core.config.key import plain as plain
from esxiproxy.core.config.plugin_type import BrokenType, SectionType, Types
from esxiproxy.core.config.plugin_type import Names as Names
from esxiproxy.core.config.plugin_type import settings_of as settings_of
from esxiproxy.core.config.section import SectionValues as SectionValues
from esxiproxy.core.errors import ServiceUnavailable as ServiceUnavailable
from esxiproxy.core.networks import Networks as Networks
from esxiproxy.core.private_sites import PrivateSites
from esxiproxy.core.routing import Challenge as Challenge
from esxiproxy.core.routing import Destination as Destination
from esxiproxy.core.routing import Identity as Identity
from esxiproxy.core.routing import TCPAddress as TCPAddress
from esxiproxy.core.routing import Upstream
from esxiproxy.core.session.claim import OnceClaim as OnceClaim
from esxiproxy.core.session.command import Selector as Selector
from esxiproxy.core.session.command import SelectorKind as SelectorKind
from esxiproxy.core.thumbprint import Pin as Pin
from esxiproxy.interfaces import IHttpClient, IState

SERVICES = "esxiproxy.services"
_GROUPS = {SectionKind.ROUTER: "esxiproxy.routers", SectionKind.AUTHENTICATOR: "esxiproxy.authenticators"}


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of the proxy that a router or an authenticator may use.

    ``section``
        the header of its section, such as ``router fleet``.  It begins the keys of the plugin in the state.
    ``clock``, ``state``, ``http``
        the clock of the proxy, the shared state and an HTTP client.
    ``upstreams``
        the upstreams of the configuration by name, templates among them.
    ``log``
        the plugin's logger.
    ``previous``
        the instance of this section and type that this one replaces in a reload; None for the first one.
    ``in_thread``
        runs a call in a thread of the plugin: two run at a time, and 64 may wait.
    ``watch``
        looks at a file once a second, in a thread, and calls a function when it has changed.
    ``sites``
        the private sockets of the admin process; None without a master.
    ``end_sessions``
        closes the consoles that a selector fits and that this plugin has routed or authenticated, with a
        reason.
    """

    section: str
    clock: IReactorTime
    state: IState
    upstreams: Mapping[str, Upstream]
    http: IHttpClient
    log: Logger
    previous: object | None
    in_thread: Callable[..., Deferred[Any]]
    watch: Callable[[Path, Callable[[], None]], None]
    end_sessions: Callable[[Selector, str], Awaitable[None]]
    sites: PrivateSites | None = None


class PluginType(SectionType, Protocol):
    """A type of router or of authenticator, which an entry point names."""

    def create(self, settings: SectionValues, context: Context) -> object:
        """Return an IRouter or an IAuthenticator with the settings of a section.

        Called once for each section and process.  A raised error refuses the start or the reload.
        """


class UnknownPlugin(LookupError):
    """No installed package has a plugin of that name."""


def load_service(name: str) -> Any:
    """Return the callable of a service.  Raises UnknownPlugin, whose text lists the installed services."""
    found = entry_points(group=SERVICES, name=name)
    if not found:
        known = ", ".join(sorted({point.name for point in entry_points(group=SERVICES)})) or "none"
        raise UnknownPlugin(f"no plugin {name!r} in {SERVICES}; installed: {known}")
    return next(iter(found)).load()


def installed_types() -> Types:
    """Return the types of routers and authenticators of all installed packages."""
    return MappingProxyType({kind: MappingProxyType(dict(_types(group))) for kind, group in _GROUPS.items()})


def _types(group: str) -> Iterable[tuple[str, SectionType | BrokenType]]:
    for point in entry_points(group=group):
        try:
            found = point.load()
        except Exception as error:  # whatever a package of others raises when it is imported
            package = point.dist.name if point.dist is not None else point.module
            reason = (
                f"{point.value} of the package {package} cannot be loaded: {error or type(error).__name__}"
            )
            yield point.name, BrokenType(point.name, reason)
        else:
            yield point.name, found
