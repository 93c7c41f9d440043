"""A listener with a portal on a real TCP port, in a thread; its machines are scripted.

The listener and the portal are in one process.  Between them is a real unix socket, as between processes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor

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

DEADLINE = 10.0
SECTION = "authenticator login"
T = TypeVar("T")


class Staff:
    """A provider whose users have their names as passwords; `ops` has all rights."""

    async def check_password(self, name: str, password: str, network: str | None) -> Principal | None:
        groups = frozenset({"ops"} if name == "ops" else ())
        return Principal(name, groups=groups) if name == password else None


class RunningPortal:
    """The listener at ``port``.  Its consoles go to an upstream on 127.0.0.1; ``folder`` gets the socket."""

    port = 0

    def __init__(self, folder: Path, *machines: FakeMachine, upstream: int = 1) -> None:
        self.inventory = FakeInventory(*machines)
        self.service = FakeService({"dc1": self.inventory})
        self._path = str(folder / "portal.sock")
        self._upstream = Upstream("echo", "127.0.0.1", upstream, secure=False, origin_field="none")
        self._reactor = EPollReactor()
        self._is_over = False
        self._up = threading.Event()
        self._problems: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://localhost:{self.port}/"

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in the thread of the portal, and return its result."""
        found: list[T] = []
        done = threading.Event()

        def run() -> None:
            try:
                found.append(function())
            finally:
                done.set()

        self._reactor.callFromThread(run)
        assert done.wait(DEADLINE)
        return found[0]

    def put(self, machine: FakeMachine) -> None:
        """Add or change a machine."""
        self.call(lambda: self.inventory.put(machine))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(DEADLINE) and not self._problems, self._problems
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reactor.callFromThread(setattr, self, "_is_over", True)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive() and not self._problems, self._problems

    def _run(self) -> None:
        try:
            self._reactor.startRunning(installSignalHandlers=False)
            proxy = self._start()
            self._up.set()
            while not self._is_over:
                self._turn()
            proxy.abort()
            stopped: list[Any] = []
            stopping: Deferred[None] = proxy.stopService()
            stopping.addBoth(stopped.append)
            while not stopped:
                self._turn()
        except BaseException as error:
            self._problems.append(error)
        finally:
            self._up.set()
            self._reactor.fireSystemEvent("shutdown")
            for selectable in self._reactor.removeAll():
                if hasattr(selectable, "abortConnection"):
                    selectable.abortConnection()
            self._reactor._poller.close()

    def _start(self) -> Proxy:
        reactor: Any = self._reactor
        proxy = Proxy(reactor)
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
        return proxy

    def _turn(self) -> None:
        self._reactor.runUntilCurrent()
        wait = self._reactor.timeout()
        self._reactor.doIteration(0.05 if wait is None else min(0.05, wait))
