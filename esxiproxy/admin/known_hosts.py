"""The hosts that a configuration knows: those of its upstreams, and those of its inventories."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from esxiproxy.admin.file_reads import FileReads
from esxiproxy.core.config.model import Config
from esxiproxy.core.config.plugin_type import PluginSection
from esxiproxy.core.config.router_keys import networks_of
from esxiproxy.core.inventory import InventoryError, read_inventory
from esxiproxy.core.networks import canonical
from esxiproxy.core.routing import Destination, TCPAddress, UnixAddress, Upstream
from esxiproxy.core.session.connection_limits import ConnectionLimits

_Look = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class KnownHost:
    """A host of the configuration.

    ``upstream`` and ``router`` are the names of its sections; ``router`` is empty for the host of an
    upstream.  ``literals`` are the addresses that are written as IP addresses, and ``names`` those that are
    host names.  ``limit`` is its ``max_connections``, for all of its addresses.
    """

    name: str
    upstream: str
    router: str
    addresses: tuple[str, ...]
    literals: tuple[str, ...]
    names: tuple[str, ...]
    limit: int | None


def shown_address(address: TCPAddress | UnixAddress) -> str:
    """Return an address as text."""
    if isinstance(address, UnixAddress):
        return address.path
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


def limit_of(upstream: Upstream, limits: ConnectionLimits) -> int | None:
    """Return the maximum number of connections to one address of an upstream."""
    return limits.overridden_by(upstream.connection_limits).max_connections


def literals_of(addresses: Iterable[TCPAddress | UnixAddress]) -> tuple[str, ...]:
    """Return the IP addresses among these addresses, in the form in which connections are counted."""
    return tuple(
        found
        for address in addresses
        if isinstance(address, TCPAddress) and (found := _canonical(address.host)) is not None
    )


def names_of(addresses: Iterable[TCPAddress | UnixAddress]) -> tuple[str, ...]:
    """Return the host names among these addresses."""
    return tuple(
        address.host
        for address in addresses
        if isinstance(address, TCPAddress) and _canonical(address.host) is None
    )


def _canonical(host: str) -> str | None:
    try:
        return canonical(host)
    except ValueError:
        return None


def known_host(destination: Destination, router: str, limits: ConnectionLimits) -> KnownHost:
    """Return the host of a destination."""
    limit = limit_of(destination.template, limits)
    return KnownHost(
        destination.name,
        destination.template.name,
        router,
        tuple(map(shown_address, destination.addresses)),
        literals_of(destination.addresses),
        names_of(destination.addresses),
        None if limit is None else limit * len(destination.addresses),
    )


class KnownHosts:
    """Reads the hosts of the configuration in force.

    Inventories are read in a thread, and again when their files have changed.  A version with mistakes is not
    used, as in the router.  While a disk hangs, the hosts that were read before are returned.
    """

    _log = Logger()

    def __init__(self, in_thread: Callable[..., Awaitable[Any]], clock: IReactorTime) -> None:
        self._in_thread = in_thread
        self._reads = FileReads(clock)
        self._config: Config | None = None
        self._looks: dict[str, _Look | None] = {}
        self._found: dict[str, Sequence[KnownHost]] = {}

    async def read(self, config: Config) -> Sequence[KnownHost]:
        """Return the hosts of this configuration: those of upstreams first."""
        if config is not self._config:
            self._config, self._looks = config, {}
        sections = [each for each in config.routers.values() if each.type.name == "inventory"]
        self._found = {each.section: self._found.get(each.section, ()) for each in sections}
        for section in sections:
            await self._reads.run(f"[{section.section}] file", partial(self._read_inventory, section, config))
        own = [
            known_host(Destination.of(upstream), "", config.connection_limits)
            for upstream in config.upstreams.values()
            if upstream.host
        ]
        return [*own, *(host for hosts in self._found.values() for host in hosts)]

    async def _read_inventory(self, section: PluginSection, config: Config) -> None:
        settings, name = section.settings, section.section
        template = config.upstreams.get(settings["template"])
        if template is None:
            return
        look, hosts, error = await self._in_thread(
            _read, settings["file"], self._looks.get(name), template, settings, config.connection_limits
        )
        if config is not self._config:  # another one came into force while the disk did not answer
            return
        if error and look != self._looks.get(name):
            self._log.warn("the hosts of [{section}] are shown as before: {error}", section=name, error=error)
        self._looks[name] = look
        if hosts is not None:
            self._found[name] = hosts


def _read(
    file: Path, before: _Look | None, template: Upstream, settings: Any, limits: ConnectionLimits
) -> tuple[_Look | None, Sequence[KnownHost] | None, str]:
    """Return the look of an inventory, and its hosts unless it looks as before, or an error."""
    try:
        facts = file.stat()
    except OSError as error:
        return None, None, f"{file}: {error.strerror}"
    look = facts.st_mtime_ns, facts.st_size, facts.st_ino
    if look == before:
        return look, None, ""
    try:
        hosts = read_inventory(file, template, networks_of(settings))
    except InventoryError as error:
        return look, None, str(error)
    return look, list(_hosts(hosts.values(), settings.name, limits)), ""


def _hosts(hosts: Iterable[Any], router: str, limits: ConnectionLimits) -> Iterator[KnownHost]:
    for host in hosts:
        yield known_host(host.route.destination, router, limits)
