"""A listener with a portal on a real TCP port, in a thread; its machines are scripted.

The listener and the portal are in one process.  Between them is a real unix socket, as between processes.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred

from esxiproxy.authenticators.login_store import LoginStore
from esxiproxy.authenticators.session import TYPE, SessionAuthenticator
from esxiproxy.core.config.key import SectionKind
from esxiproxy.core.config.plugin_type import settings_of
from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.core.http.portal import portal_destination
from esxiproxy.core.routing import Principal, Upstream
from esxiproxy.net.upstream.decision import Plugin
from esxiproxy.portal.api import PortalApi
from esxiproxy.portal.assets import Assets
from esxiproxy.portal.favourites import Favourites
from esxiproxy.portal.machine_rows import Catalogue
from esxiproxy.portal.settings import PortalListener, Provider
from esxiproxy.portal.site import PortalRoot, PortalSite
from esxiproxy.proxy import Proxy
from esxiproxy.routers.static import StaticRouter
from tests.support.portal_machines import FakeInventory, FakeMachine, FakeService, rights_by_tag, scope_by_tag
from tests.support.reactor_thread import ReactorThread

SECTION = "authenticator login"


class Staff:
    """A provider whose users have their names as passwords; `ops` has all rights."""

    async def check_password(self, name: str, password: str, network: str | None) -> Principal | None:
        groups = frozenset({"ops"} if name == "ops" else ())
        return Principal(name, groups=groups) if name == password else None


class RunningPortal(ReactorThread):
    """The listener at ``port``.  Its consoles go to an upstream on 127.0.0.1; ``folder`` gets the socket."""

    port = 0

    def __init__(self, folder: Path, *machines: FakeMachine, upstream: int = 1) -> None:
        super().__init__()
        self.inventory = FakeInventory(*machines)
        self.service = FakeService({"dc1": self.inventory})
        self._path = str(folder / "portal.sock")
        self._upstream = Upstream("echo", "127.0.0.1", upstream, secure=False, origin_field="none")

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://localhost:{self.port}/"

    def put(self, machine: FakeMachine) -> None:
        """Add or change a machine."""
        self.call(lambda: self.inventory.put(machine))

    def start(self) -> None:
        reactor = self.reactor
        proxy = self._proxy = Proxy(reactor)
        texts = {"providers": "staff", "idle": "1h"}
        settings = settings_of(TYPE, SectionKind.AUTHENTICATOR, texts, Path(), SECTION)
        context: Any = SimpleNamespace(section=SECTION, state=proxy.state)
        login = Plugin(SECTION, SessionAuthenticator(settings, context))
        factory = proxy.listener(
            "people",
            StaticRouter(self._upstream),
            [login],
            policy=ListenerPolicy(http=Http.PORTAL),
            portal=portal_destination(self._path),
        )
        proxy.startService()
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.port = port.getHost().port
        logins = LoginStore(proxy.state, SECTION, 43200.0, 3600.0, ["authenticator staff"])
        providers = (Provider("staff", Staff()), Provider("sso", SimpleNamespace()))
        listener = PortalListener("people", f"http://localhost:{self.port}", logins, providers)
        catalogue = Catalogue(self.service, rights_by_tag, scope_by_tag)
        catalogue.start()
        api = PortalApi(self.service, catalogue, Favourites(proxy.state, reactor), None, reactor)
        root = PortalRoot({"people": listener}, api, Assets(), reactor)
        reactor.listenUNIX(self._path, PortalSite(root, reactor), mode=0o600)

    def stop(self) -> Deferred[None]:
        self._proxy.abort()
        stopping: Deferred[None] = self._proxy.stopService()
        return stopping
