"""The Twisted service that binds one listener's address and serves it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from esxiproxy.binding import Binding
from esxiproxy.core.startup import BindError


class ListenerService(Service):
    """A service that listens on one address while it runs.

    It binds ``endpoint``, or takes over the ``inherited`` socket that listens there already.  It does so in
    ``privilegedStartService``, before twistd gives up root, so that port 80 and ``--uid`` work together.

    ``room`` returns whether there is a file descriptor for one more client.  Without one, new connections
    wait in the kernel's accept queue.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        endpoint: str,
        factory: Any,
        reactor: Any,
        inherited: socket.socket | None = None,
        room: Callable[[], bool] = lambda: True,
    ) -> None:
        self.label = name
        """The listener's name, which a reload may change."""
        self.answers_health = False
        """Whether the listener accepts connections during a drain, to answer health checks."""
        self.endpoint = endpoint
        self._factory = CurrentFactory(factory)
        self._binding = Binding(endpoint, reactor, inherited)
        self._has_descriptors = room

    @property
    def port(self) -> IListeningPort | None:
        """The bound port, None before the start."""
        return self._binding.port

    @property
    def is_removed(self) -> bool:
        """Whether clients cannot reach a unix socket any more, since its file was removed or replaced."""
        return self._binding.is_removed

    def serve(self, factory: Any) -> None:
        """Build the protocols of new connections with ``factory``.  Open connections keep theirs."""
        self._factory.current = factory

    def privilegedStartService(self) -> None:
        """Bind the address.  Raises BindError, which ends the start."""
        super().privilegedStartService()
        try:
            self._binding.bind(self._factory)
        except Exception as error:
            raise BindError(f"listener {self.label}: {error}") from error
        if self.port is not None:
            cast(Any, self.port).has_descriptors = self._has_descriptors
            self._log.info("listener {name} listening on {address}", name=self.label, address=self.address())

    def startService(self) -> None:
        if self.port is None:  # embedded applications do not call privilegedStartService
            self.privilegedStartService()
        super().startService()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return self._binding.release()

    def address(self) -> str:
        """Return the address of the listener as text."""
        return self._binding.address


class CurrentFactory(Factory):
    """The factory of a port: it delegates to ``current``, which a reload replaces."""

    noisy = False

    def __init__(self, current: Any) -> None:
        self.current = current

    def buildProtocol(self, addr: Any) -> Any:
        return self.current.buildProtocol(addr)
