"""A WebSocket console proxy for VMware ESXi.

The names below are what another Twisted application builds with; ``docs/embedding.md`` explains them.  A name
is looked up when it is first used, so that ``import esxiproxy`` costs nothing and installs no reactor.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esxiproxy.app.service import ProxyService
    from esxiproxy.core.config.loader import Config, ConfigError, load
    from esxiproxy.core.config.model import ListenerTLS
    from esxiproxy.core.errors import (
        AccessDenied,
        AddressDenied,
        Killed,
        LimitReached,
        RouteNotFound,
        SessionError,
        StateUnavailable,
    )
    from esxiproxy.core.http.head import RequestHead
    from esxiproxy.core.http.policy import Http, ListenerPolicy
    from esxiproxy.core.http.request import Request
    from esxiproxy.core.peer_address import PeerAddress
    from esxiproxy.core.routing import Principal, Route, Subprotocol, TLSProfile, Upstream, Verify
    from esxiproxy.core.session.connection_limits import ConnectionLimits
    from esxiproxy.core.session.record import Record
    from esxiproxy.core.session.session import Session
    from esxiproxy.core.session_limits import SessionLimits
    from esxiproxy.core.thumbprint import Pin
    from esxiproxy.interfaces import IAuthenticator, IRouter, ISessionObserver
    from esxiproxy.net.tls.server import CurrentContext, listener_context
    from esxiproxy.proxy import Proxy
    from esxiproxy.routers.static import StaticRouter

__all__ = [
    "AccessDenied",
    "AddressDenied",
    "Config",
    "ConfigError",
    "ConnectionLimits",
    "CurrentContext",
    "Http",
    "IAuthenticator",
    "IRouter",
    "ISessionObserver",
    "Killed",
    "LimitReached",
    "ListenerPolicy",
    "ListenerTLS",
    "PeerAddress",
    "Pin",
    "Principal",
    "Proxy",
    "ProxyService",
    "Record",
    "Request",
    "RequestHead",
    "Route",
    "RouteNotFound",
    "Session",
    "SessionError",
    "SessionLimits",
    "StateUnavailable",
    "StaticRouter",
    "Subprotocol",
    "TLSProfile",
    "Upstream",
    "Verify",
    "listener_context",
    "load",
]

_PLACES = {
    "core.config.loader": ("Config", "load"),
    "core.config.errors": ("ConfigError",),
    "core.errors": (
        "AccessDenied",
        "AddressDenied",
        "Killed",
        "LimitReached",
        "RouteNotFound",
        "SessionError",
        "StateUnavailable",
    ),
    "core.http.head": ("RequestHead",),
    "core.session_limits": ("SessionLimits",),
    "core.config.model": ("ListenerTLS",),
    "core.session.record": ("Record",),
    "core.http.policy": ("Http", "ListenerPolicy"),
    "core.http.request": ("Request",),
    "core.session.connection_limits": ("ConnectionLimits",),
    "core.peer_address": ("PeerAddress",),
    "core.thumbprint": ("Pin",),
    "core.routing": ("Principal", "Route", "Subprotocol", "TLSProfile", "Upstream", "Verify"),
    "core.session.session": ("Session",),
    "interfaces": ("IAuthenticator", "IRouter", "ISessionObserver"),
    "net.tls.server": ("CurrentContext", "listener_context"),
    "proxy": ("Proxy",),
    "routers.static": ("StaticRouter",),
    "app.service": ("ProxyService",),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    """PEP 562: a public name, from where it lives."""
    place = _PLACE_OF.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{place}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
