"""The admin service in the process that runs it: made when a configuration has [admin], kept over reloads."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from esxiproxy.core.config.model import Admin, Config, ListenerTLS
from esxiproxy.net.tls.server import CurrentContext, listener_context
from esxiproxy.net.upstream.decision import Plugin

if TYPE_CHECKING:
    from esxiproxy.admin.access import Authenticate
    from esxiproxy.admin.service import AdminParts, AdminService, Bound

    BoundAdmin = tuple[AdminService, Bound, Authenticate | None] | None
    """The service of a configuration, its ports, and the authenticators of ``listen``, if there is one."""


class AdminSlot(MultiService):
    """The admin service of a process, if the configuration has one.

    ``make_parts`` returns the objects that the service is made of; it is called for the first configuration
    with [admin].
    """

    _log = Logger()

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
            return None
        if self._service is None:
            # A proxy without [admin] does not import twisted.web.
            from esxiproxy.admin.service import AdminService

            self._service = AdminService(self._reactor, self._make_parts(), self._inherited)
            self._service.setServiceParent(self)
        if admin is not None and admin.tls is not None:
            listener_context(admin.tls)  # the reload fails here if a file is wrong
        authenticate = None if admin is None else self._authenticate(admin, config, plugins)
        return self._service, self._service.bind(admin, undo), authenticate

    def serve(self, bound: BoundAdmin, config: Config) -> None:
        """Serve the ports of a configuration."""
        if bound is not None:
            service, ports, authenticate = bound
            service.serve(ports, config.admin, authenticate)

    def close_others(self, bound: BoundAdmin) -> None:
        """Close all ports but those of a configuration, in the background.

        A request in flight there may be the one that waits for the end of the reload.
        """
        if bound is not None:
            service, ports, _ = bound
            closing = Deferred.fromCoroutine(service.close_others(ports))
            closing.addErrback(lambda failure: self._log.failure("cannot close a port of [admin]", failure))

    def _authenticate(
        self, admin: Admin, config: Config, plugins: Mapping[str, Plugin]
    ) -> Authenticate | None:
        from esxiproxy.app.admin_login import AdminLogin

        if not admin.authenticators:
            return None
        asked = [plugins[section.section] for section in admin.authenticators]
        return AdminLogin(asked, config.limits, self._reactor).authenticate


def secured(reactor: Any, tls: ListenerTLS, factory: Any) -> Any:
    """Return a factory with TLS around another one.  Raises TLSFileError."""
    return TLSMemoryBIOFactory(CurrentContext(listener_context(tls)), False, factory, clock=reactor)
