"""A router that finds the host of a session in a list of hosts, which a request names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from twisted.internet.defer import Deferred
from zope.interface import implementer

from esxiproxy.core.config.consistency import template_conflicts
from esxiproxy.core.config.router_keys import ALLOW, DENY, TEMPLATE_KEY, networks_of
from esxiproxy.core.errors import RouteNotFound
from esxiproxy.core.http.policy import Http
from esxiproxy.core.http.request import Request
from esxiproxy.core.inventory import Hosts, InventoryError, canonical_name, read_inventory, replaced
from esxiproxy.core.locate import Locate, locate_type
from esxiproxy.core.networks import Networks
from esxiproxy.core.routing import Destination, Principal, Route, Upstream
from esxiproxy.core.session.command import Selector, SelectorKind
from esxiproxy.interfaces import IRouter
from esxiproxy.plugins import ROUTER, Context, Key, Names, SectionValues, choice, path
from esxiproxy.plugins.watched_files import OnRemoved


@implementer(IRouter)
class InventoryRouter:
    """A router that sends a session to the host of a file that the request names.

    The file is read again when it changes.  A version with mistakes is not used.
    """

    upgrades_only = False
    secrets = ()

    def __init__(
        self,
        file: Path,
        template: Upstream,
        locate: Locate,
        networks: Networks,
        on_removed: OnRemoved,
        context: Context,
    ) -> None:
        self.ambient = locate.ambient
        self.consumed_cookies = locate.cookies
        self._file = file
        self._template = template
        self._locate = locate
        self._networks = networks
        self._on_removed = on_removed
        self._context = context
        self._hosts: Hosts | None = None
        self._is_reading = False
        self._has_changed = False
        context.watch(file, self._changed)

    async def ready(self) -> None:
        """Read the file.  Raise InventoryError if it has mistakes."""
        hosts = await self._read()
        if self._hosts is None:  # else a later version was read meanwhile
            self._hosts = hosts

    async def route(self, request: Request, principal: Principal) -> Route | None:
        if self._hosts is None:
            await self.ready()
        assert self._hosts is not None
        name = self._locate.find(request)
        if name is None:
            return None
        host = self._hosts.get(canonical_name(name)) if name.isascii() else None
        if host is None:
            raise RouteNotFound("the inventory has no host of this name")
        target = self._locate.target(request)
        if target == request.head.target:
            return host.route
        return replace(host.route, target=target, prefix=self._locate.prefix(name))

    async def _read(self) -> Hosts:
        hosts: Hosts = await self._context.in_thread(
            read_inventory, self._file, self._template, self._networks
        )
        return hosts

    def _changed(self) -> None:
        """Read the file again, once more if it changes while it is read."""
        self._has_changed = True
        if self._is_reading:
            return
        self._is_reading = True
        reading = Deferred.fromCoroutine(self._update())
        reading.addErrback(
            lambda failure: self._context.log.failure(
                "cannot read {file}, the hosts of before stay", failure, file=str(self._file)
            )
        )

    async def _update(self) -> None:
        try:
            while self._has_changed:
                self._has_changed = False
                try:
                    hosts = await self._read()
                except InventoryError as error:
                    self._report(error)
                else:
                    await self._use(hosts)
        finally:
            self._is_reading = False

    def _report(self, error: InventoryError) -> None:
        log = self._context.log
        for line in error.lines:
            log.error("{line}", line=line)
        log.error(
            "{file} has mistakes and is not used, the hosts of before stay: correct {number} lines",
            file=str(self._file),
            number=len({mistake.line for mistake in error.mistakes}),
        )

    async def _use(self, hosts: Hosts) -> None:
        """Use these hosts from now on, and close consoles of hosts that were removed, if that is set."""
        old, self._hosts = self._hosts or {}, hosts
        gone = replaced(old, hosts)
        self._context.log.info(
            "{file} was read: {number} hosts, {gone} were removed or have another address",
            file=str(self._file),
            number=len(hosts),
            gone=len(gone),
        )
        if self._on_removed is not OnRemoved.END:
            return
        for name in gone:
            try:
                await self._context.end_sessions(Selector(SelectorKind.HOST, name), "host removed")
            except Exception:
                self._context.log.failure("cannot close the consoles of {name}", name=name)


class InventoryType:
    """The type ``inventory``."""

    name = "inventory"
    help = "Sends sessions to the hosts of a file, CSV or JSON, by the name that the request has."
    keys = (
        Key(
            "file",
            ROUTER,
            path("file"),
            None,
            "The hosts: CSV with the header `name,address,pins,labels`, or a JSON list of objects with these"
            " names. An address is `HOST[:PORT]`, which is wss and port 443, or a URL. Pins and `key=value` "
            "labels are separated by spaces. Further columns are keys of `[upstream]`. The file is read again"
            " when it changes; a version with mistakes is not used.",
            required=True,
        ),
        TEMPLATE_KEY,
        Key(
            "locate",
            ROUTER,
            locate_type("host"),
            None,
            "Where a request names its host: `path:/h/{host}/`, `query:host`, "
            "`host:{host}.consoles.example.com` or `cookie:NAME`. This part is not sent to the upstream.",
            required=True,
        ),
        replace(
            ALLOW,
            required=False,
            meaning="Networks whose addresses may be dialled, separated by commas. Without this key these are"
            " all but loopback, link-local and other special addresses.",
        ),
        DENY,
        Key(
            "on_removed",
            ROUTER,
            choice(OnRemoved),
            "keep",
            "Treatment of running consoles when their host is removed from the file, or gets another address"
            " or other pins: `keep` or `end` them.",
        ),
    )

    def listener_warnings(self, settings: SectionValues, listener: SectionValues) -> Iterator[str]:
        """Yield a warning for a listener whose pages of all hosts have one origin."""
        if settings["locate"].prefix("x") and listener["http"] is Http.FORWARD:
            yield (
                "all hosts have one origin, so a page of one host can read those of the others: name the "
                "host in the Host field instead, as in locate = host:{host}.consoles.example.com"
            )

    def conflicts(self, settings: SectionValues, names: Names) -> Iterator[tuple[str, str]]:
        """Yield a template that does not exist, and the mistakes of the file."""
        yield from template_conflicts("template", settings, names)
        template = names.upstreams.get(settings["template"]) or Upstream("", "", 0, secure=True)
        try:
            read_inventory(settings["file"], template, networks_of(settings))
        except InventoryError as error:
            for line in error.lines:
                yield "file", line

    def destinations(
        self, settings: SectionValues, upstreams: Mapping[str, Upstream]
    ) -> Iterator[Destination]:
        """Yield the hosts of the file in its order.  Raises InventoryError."""
        hosts = read_inventory(settings["file"], upstreams[settings["template"]], networks_of(settings))
        for host in hosts.values():
            yield host.route.destination

    def create(self, settings: SectionValues, context: Context) -> InventoryRouter:
        """Return the router.  It reads the file when it becomes ready."""
        return InventoryRouter(
            settings["file"],
            context.upstreams[settings["template"]],
            settings["locate"],
            networks_of(settings),
            settings["on_removed"],
            context,
        )


TYPE = InventoryType()
