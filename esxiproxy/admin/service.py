"""The admin service: binds the addresses of [admin], and serves them."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, cast

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from esxiproxy.admin.access import Access, Authenticate, ListenAccess, SocketAccess
from esxiproxy.admin.audit import AuditLog
from esxiproxy.admin.call import Actor, Handlers
from esxiproxy.admin.control import Control
from esxiproxy.admin.dispatch import Dispatcher
from esxiproxy.admin.factory import AdminFactory
from esxiproxy.admin.files import page_files
from esxiproxy.admin.probes import Metrics, ProbeAnswers
from esxiproxy.admin.site import Root, StaticFile, Stream
from esxiproxy.binding import Binding, match_endpoints, set_socket_group
from esxiproxy.core.config.model import ADMIN_LISTEN, ADMIN_PROBE, ADMIN_SOCKET, Admin, ListenerTLS
from esxiproxy.core.startup import BindError

_STOP_TIMEOUT = 2.0
"""Seconds within which requests in flight are answered at the stop."""
_CHECK_INTERVAL = 0.05


@dataclass(frozen=True, slots=True)
class AdminParts:
    """The objects that the admin service is made of.

    ``handlers`` are the operations of the API, and ``prechecks`` refuse arguments before these stand in the
    audit log, which is written in ``in_audit_thread``.  ``open_stream`` opens an event stream of a user, and
    ``secured`` adds TLS to a protocol factory.
    """

    control: Control
    handlers: Handlers
    open_stream: Callable[[Actor, Mapping[str, Any]], Stream]
    metrics: Metrics
    secured: Callable[[ListenerTLS, Any], Any]
    in_audit_thread: Callable[..., Awaitable[Any]]
    prechecks: Handlers = field(default_factory=lambda: MappingProxyType({}))
    services: tuple[Any, ...] = ()
    """Services that run while the admin service runs."""


@dataclass(eq=False, slots=True)
class AdminPort:
    """A bound address: its name, and the factory of its connections."""

    name: str
    binding: Binding
    factory: AdminFactory


Bound = Mapping[str, AdminPort]
"""The ports of a configuration by their names."""


class AdminService(MultiService):
    """The service on the addresses of [admin].

    ``inherited`` has listening sockets by their names, which are not shut down at the end, since other
    processes share them.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        parts: AdminParts,
        inherited: Mapping[str, socket.socket] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._parts = parts
        for service in parts.services:
            service.setServiceParent(self)
        self._inherited = inherited
        self._ports: list[AdminPort] = []
        self._files: Mapping[bytes, StaticFile] = {}

    def bind(self, admin: Admin | None, undo: AsyncExitStack) -> Bound:
        """Return the ports of a configuration: existing ones of the same endpoints, and new ones.

        A unix socket whose file was removed is bound again.
        New ones accept and close connections until ``serve``.  ``undo`` collects what has to be done if the
        reload fails.  Raises BindError.
        """
        endpoints = () if admin is None else admin.endpoints
        existing = [
            (port.name, port.binding.endpoint, port) for port in self._ports if not port.binding.is_removed
        ]
        kept = match_endpoints(endpoints, existing)
        bound = {}
        for name, endpoint in endpoints:
            port = kept.get(name) or self._new(name, endpoint, undo)
            bound[name] = port
        if admin is not None and ADMIN_SOCKET not in self._inherited:
            undo.callback(set_socket_group(str(admin.socket), admin.socket_group or ""))
        return MappingProxyType(bound)

    def serve(self, bound: Bound, admin: Admin | None, authenticate: Authenticate | None) -> None:
        """Serve these ports by this configuration.

        The files of the page are read again.  Event streams of the configuration before end, and pages open
        them again.
        """
        self._files = page_files()
        for name, port in bound.items():
            assert admin is not None
            port.name = name
            tls = admin.tls if name == ADMIN_LISTEN else None
            secured = None if tls is None else partial(self._parts.secured, tls)
            port.factory.serve(self._root(name, admin, authenticate), secured)

    async def close_others(self, bound: Bound) -> None:
        """Close all other ports."""
        others = [port for port in self._ports if port not in bound.values()]
        self._ports = [port for port in self._ports if port in bound.values()]
        for port in others:
            await self._close(port)

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self.close_others({})
        for service in self:
            await maybeDeferred(service.stopService)

    def _root(self, name: str, admin: Admin, authenticate: Authenticate | None) -> Root:
        parts = self._parts
        probes = ProbeAnswers(parts.control, parts.metrics, self._reactor)
        if name == ADMIN_PROBE:
            return Root(probes)
        access: Access = SocketAccess() if name == ADMIN_SOCKET else ListenAccess(admin, authenticate)
        audit = AuditLog(admin.audit_log, parts.in_audit_thread, self._reactor)
        dispatcher = Dispatcher(parts.handlers, access, audit, parts.prechecks)
        return Root(probes, dispatcher, self._files, parts.open_stream, self._reactor)

    def _new(self, name: str, endpoint: str, undo: AsyncExitStack) -> AdminPort:
        port = AdminPort(
            name, Binding(endpoint, self._reactor, self._inherited.get(name)), AdminFactory(self._reactor)
        )
        try:
            port.binding.bind(port.factory)
        except Exception as error:
            raise BindError(f"[admin]{name.removeprefix(' admin')}: {error}") from error
        self._ports.append(port)
        undo.push_async_callback(self._drop, port)
        what = name.strip()
        self._log.info("{what} listening on {address}", what=what, address=port.binding.address)
        return port

    async def _drop(self, port: AdminPort) -> None:
        self._ports.remove(port)
        await self._close(port)

    async def _close(self, port: AdminPort) -> None:
        """Close a port, answer the requests in flight, and then close its connections."""
        await maybeDeferred(cast(Any, port.binding.release), port.name in self._inherited)
        root = port.factory.root
        if root is None:
            return
        root.close_streams()
        end = self._reactor.seconds() + _STOP_TIMEOUT
        while root.in_flight and self._reactor.seconds() < end:
            await deferLater(self._reactor, _CHECK_INTERVAL)
        port.factory.close_connections(abort=bool(root.in_flight))
