"""The admin service in the process that runs it: made when a configuration has [admin], kept over reloads."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Any

from twisted.application.service import MultiService
from twisted.protocols.tls import TLSMemoryBIOFactory

from esxiproxy.admin.access import Authenticate
from esxiproxy.admin.service import AdminParts, AdminService, Bound
from esxiproxy.app.admin_login import AdminLogin
from esxiproxy.core.config.model import Admin, Config, ListenerTLS
from esxiproxy.net.tls.server import CurrentContext, listener_context
from esxiproxy.net.upstream.decision import Plugin

BoundAdmin = tuple[AdminService | None, Bound, Authenticate | None]
"""The service of a configuration, its ports, and the authenticators of ``listen``."""


class AdminSlot(MultiService):
    """The admin service of a process, if the configuration has one.

    ``make_parts`` returns what the service is made of; it is called for the first configuration with
    [admin].
    """

    def __init__(
        self,
        reactor: Any,
        make_parts: Callable[[], AdminParts],
        inherited: Mapping[str, socket.socket] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._make_parts = make_parts
        self._inherited = inherited
        self._service: AdminService | None = None

    def bind(self, config: Config, plugins: Mapping[str, Plugin], undo: AsyncExitStack) -> BoundAdmin:
        """Return the service and the ports of a configuration.

        ``plugins`` are the authenticators by their sections.  ``undo`` collects what has to be done if the
        reload fails.  Raises BindError or TLSFileError.
        """
        admin = config.admin
        if admin is None and self._service is None:
            return None, MappingProxyType({}), None
        if self._service is None:
            self._service = AdminService(self._reactor, self._make_parts(), self._inherited)
            self._service.setServiceParent(self)
        if admin is not None and admin.tls is not None:
            listener_context(admin.tls)  # the reload fails here if a file is wrong
        authenticate = None if admin is None else self._authenticate(admin, config, plugins)
        return self._service, self._service.bind(admin, undo), authenticate

    async def serve(self, bound: BoundAdmin, config: Config) -> None:
        """Serve the ports of a configuration, and close all others."""
        service, ports, authenticate = bound
        if service is not None:
            service.serve(ports, config.admin, authenticate)
            await service.close_others(ports)

    def _authenticate(
        self, admin: Admin, config: Config, plugins: Mapping[str, Plugin]
    ) -> Authenticate | None:
        if not admin.authenticators:
            return None
        asked = [plugins[section.section] for section in admin.authenticators]
        return AdminLogin(asked, config.limits, self._reactor).authenticate


def secured(reactor: Any, tls: ListenerTLS, factory: Any) -> Any:
    """Return a factory with TLS around another one.  Raises TLSFileError."""
    return TLSMemoryBIOFactory(CurrentContext(listener_context(tls)), False, factory, clock=reactor)
