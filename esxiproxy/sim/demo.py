"""The demo: a simulated host, a simulated vCenter, and a page with consoles through the proxy's listeners."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from twisted.web.static import File

from esxiproxy.core.config.loader import Config, Listener
from esxiproxy.core.http.policy import Http
from esxiproxy.sim.host import SimulatedHost
from esxiproxy.sim.options import HostOptions
from esxiproxy.sim.page import PageConsole, PagePortal, novnc, render
from esxiproxy.sim.vcenter.options import VCenterOptions
from esxiproxy.sim.vcenter.vcenter import SimulatedVCenter

PAGE_PORT = 8000
"""The page's TCP port; the environment variable ``ESXIPROXY_DEMO_PORT`` overrides it."""


class _Text(Resource):
    """A resource whose text is computed for each request."""

    isLeaf = True

    def __init__(self, content_type: str, text: Any) -> None:
        super().__init__()
        self._content_type = content_type
        self._text = text

    def render_GET(self, request: Request) -> bytes:
        request.setHeader("Content-Type", self._content_type)
        request.setHeader("Cache-Control", "no-store")
        return str(self._text()).encode()

    render_POST = render_GET


class _SiteWithoutLog(Site):
    """A site without an access log."""

    def log(self, request: object) -> None:
        """Log nothing."""


class DemoService(MultiService):
    """A host on two loopback ports, a vCenter, and a page.

    A ``page_port`` of 0 means a free port.  The page issues tickets to every client, and so listens on
    loopback only.
    """

    log = Logger()

    def __init__(
        self,
        options: HostOptions,
        page_port: int,
        consoles: Sequence[PageConsole],
        reactor: Any,
        vcenter: VCenterOptions | None = None,
        portal: PagePortal | None = None,
    ) -> None:
        super().__init__()
        if vcenter is not None:
            SimulatedVCenter(vcenter, reactor).setServiceParent(self)
        self.host = SimulatedHost(options, reactor)
        self.host.setServiceParent(self)
        self._page_port = page_port
        self._reactor = reactor
        self._port: IListeningPort | None = None
        self._site = self._make_site(consoles, portal, novnc())

    def _make_site(
        self, consoles: Sequence[PageConsole], portal: PagePortal | None, viewer: Path | None
    ) -> Site:
        root = Resource()
        page = render(consoles, portal, viewer is not None)
        root.putChild(b"", _Text("text/html; charset=utf-8", lambda: page))
        root.putChild(b"ticket", _Text("text/plain; charset=ascii", self.host.issue_ticket))
        if viewer is not None:
            files = File(str(viewer))
            files.contentTypes[".js"] = "text/javascript"
            root.putChild(b"novnc", files)
        site = _SiteWithoutLog(root)
        site.noisy = False
        return site

    @property
    def page_url(self) -> str:
        """The page's URL, after the start of the service."""
        assert self._port is not None
        address: Any = self._port.getHost()
        return f"http://localhost:{address.port}/"

    def startService(self) -> None:
        super().startService()
        self._port = self._reactor.listenTCP(self._page_port, self._site, interface="127.0.0.1")
        self.log.info("the demo is ready: open {url} in a browser", url=self.page_url)

    def stopService(self) -> Deferred[Any]:
        port, self._port = self._port, None
        stopped = maybeDeferred(super().stopService)
        if port is not None:
            stopped.addCallback(lambda _: port.stopListening())
        return stopped


def from_config(config: Config, reactor: Any) -> DemoService:
    """Return the demo for a configuration, with a console for each listener in front of the simulated host.

    The first ``ws://`` upstream and the first ``wss://`` upstream are simulated at their ports.  The host's
    certificate is the ``ca`` file of the latter.  The first section ``[vsphere NAME]`` is simulated at its
    port, with its ``ca`` file and its user.
    """
    plain = next((upstream for upstream in config.upstreams.values() if not upstream.secure), None)
    secure = next((upstream for upstream in config.upstreams.values() if upstream.secure), None)
    options = HostOptions(
        port=plain.port if plain else None,
        tls_port=secure.port if secure else None,
        certificate=secure.ca if secure else None,
    )
    hosts = {upstream.name for upstream in (plain, secure) if upstream is not None}
    consoles = [_console(listener, config) for listener in config.listeners if listener.upstream in hosts]
    page_port = int(os.environ.get("ESXIPROXY_DEMO_PORT", PAGE_PORT))
    return DemoService(options, page_port, consoles, reactor, _vcenter(config), _portal(config))


def _vcenter(config: Config) -> VCenterOptions | None:
    """Return the options of a vCenter at the address of the first section, or None."""
    for vsphere in config.vspheres.values():
        return VCenterOptions(
            port=vsphere.port, control_port=None, certificate=vsphere.identity.ca, user=vsphere.user
        )
    return None


def _portal(config: Config) -> PagePortal | None:
    """Return the link to the first listener with a portal, or None."""
    for listener in config.listeners:
        if listener.http is Http.PORTAL and listener.public_url is not None:
            return PagePortal(listener.public_url)
    return None


def _console(listener: Listener, config: Config) -> PageConsole:
    scheme = "wss" if listener.tls else "ws"
    upstream = config.upstreams[listener.upstream or ""]
    port = listener.address.rpartition(":")[2]
    title = f"{scheme} in, {'wss' if upstream.secure else 'ws'} out · port {port}"
    return PageConsole(title, f"{scheme}://localhost:{port}")
