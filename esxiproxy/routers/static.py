"""The router that sends everything to one upstream."""

from __future__ import annotations

from zope.interface import implementer

from esxiproxy.core.config.loader import Config, Listener
from esxiproxy.core.http.request import Request
from esxiproxy.core.routing import Principal, Route, Upstream
from esxiproxy.interfaces import IRouter


@implementer(IRouter)
class StaticRouter:
    """Every session goes to the same upstream, with the client's own target."""

    def __init__(self, upstream: Upstream) -> None:
        self._route = Route(upstream)

    async def route(self, request: Request, principal: Principal) -> Route:
        return self._route


def from_config(config: Config, listener: Listener) -> StaticRouter:
    """The router of a listener that names an upstream."""
    assert listener.upstream is not None, "the configuration was checked"
    return StaticRouter(config.upstreams[listener.upstream])
