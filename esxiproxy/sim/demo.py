"""The demo: a simulated host, and a page with its consoles through the listeners of the proxy."""

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
from esxiproxy.sim.host import SimulatedHost
from esxiproxy.sim.options import HostOptions
from esxiproxy.sim.page import PageConsole, novnc, render

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
    """A host on two loopback ports, and a page on a third.

    A ``page_port`` of 0 means a free port.  The page issues tickets to every client, and so listens on
    loopback only.
    """

    log = Logger()

    def __init__(
        self, options: HostOptions, page_port: int, consoles: Sequence[PageConsole], reactor: Any
    ) -> None:
        super().__init__()
        self.host = SimulatedHost(options, reactor)
        self.host.setServiceParent(self)
        self._page_port = page_port
        self._reactor = reactor
        self._port: IListeningPort | None = None
        self._site = self._make_site(consoles, novnc())

    def _make_site(self, consoles: Sequence[PageConsole], viewer: Path | None) -> Site:
        root = Resource()
        page = render(consoles, viewer is not None)
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
    """Return the demo for a configuration, with a console for each of its listeners.

    The first ``ws://`` upstream and the first ``wss://`` upstream are simulated at their ports.  The host's
    certificate is the ``ca`` file of the latter.
    """
    plain = next((upstream for upstream in config.upstreams.values() if not upstream.secure), None)
    secure = next((upstream for upstream in config.upstreams.values() if upstream.secure), None)
    options = HostOptions(
        port=plain.port if plain else None,
        tls_port=secure.port if secure else None,
        certificate=secure.ca if secure else None,
    )
    consoles = [_console(listener, config) for listener in config.listeners]
    return DemoService(options, int(os.environ.get("ESXIPROXY_DEMO_PORT", PAGE_PORT)), consoles, reactor)


def _console(listener: Listener, config: Config) -> PageConsole:
    scheme = "wss" if listener.tls else "ws"
    upstream = config.upstreams[listener.upstream or ""]
    port = listener.address.rpartition(":")[2]
    title = f"{scheme} in, {'wss' if upstream.secure else 'ws'} out · port {port}"
    return PageConsole(title, f"{scheme}://localhost:{port}")
