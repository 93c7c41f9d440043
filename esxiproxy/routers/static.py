"""A router that sends all sessions to one upstream."""

from __future__ import annotations

from zope.interface import implementer

from esxiproxy.core.config.loader import Config, Listener
from esxiproxy.core.http.request import Request
from esxiproxy.core.routing import Principal, Route, Upstream
from esxiproxy.interfaces import IRouter


@implementer(IRouter)
class StaticRouter:
    """A router that sends all sessions to one upstream, with the request target of the client."""

    ambient = False

    def __init__(self, upstream: Upstream) -> None:
        self._route = Route(upstream)

    async def route(self, request: Request, principal: Principal) -> Route:
        return self._route


def from_config(config: Config, listener: Listener) -> StaticRouter:
    """Return the router of a listener that has an ``upstream`` in the configuration."""
    assert listener.upstream is not None, "the configuration was checked"
    return StaticRouter(config.upstreams[listener.upstream])
