"""A WebSocket console proxy for VMware ESXi.

The names in ``__all__`` are the public API for Twisted applications that embed the proxy; they are described
in ``docs/embedding.md``.  Each name is imported when it is first used, so that ``import esxiproxy`` is cheap
and installs no reactor.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esxiproxy.app.preflight import load
    from esxiproxy.app.service import ProxyService
    from esxiproxy.core.config.loader import Config, ConfigError
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
    from esxiproxy.core.process_identity import ProcessIdentity
    from esxiproxy.core.routing import Principal, Route, Subprotocol, TLSProfile, Upstream, Verify
    from esxiproxy.core.session.connection_limits import ConnectionLimits
    from esxiproxy.core.session.drain import Drain, DrainKind
    from esxiproxy.core.session.record import Record
    from esxiproxy.core.session.session import Session
    from esxiproxy.core.session_limits import SessionLimits
    from esxiproxy.core.thumbprint import Pin
    from esxiproxy.interfaces import IAuthenticator, IRouter, ISessionObserver
    from esxiproxy.net.tls.server import CurrentContext, listener_context
    from esxiproxy.net.transport.reactor import with_fast_transports
    from esxiproxy.proxy import Proxy
    from esxiproxy.routers.static import StaticRouter

__all__ = [
    "AccessDenied",
    "AddressDenied",
    "Config",
    "ConfigError",
    "ConnectionLimits",
    "CurrentContext",
    "Drain",
    "DrainKind",
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
    "ProcessIdentity",
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
    "with_fast_transports",
]

_MODULES = {
    "core.config.loader": ("Config",),
    "app.preflight": ("load",),
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
    "core.process_identity": ("ProcessIdentity",),
    "core.session.drain": ("Drain", "DrainKind"),
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
    "net.transport.reactor": ("with_fast_transports",),
    "proxy": ("Proxy",),
    "routers.static": ("StaticRouter",),
    "app.service": ("ProxyService",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used (PEP 562)."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
