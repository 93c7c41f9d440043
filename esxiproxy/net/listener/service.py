"""A bound port, with what is served on it."""

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
    """Binds one address while it runs, or takes over an ``inherited`` socket that listens there already.

    Binding happens in ``privilegedStartService``: before twistd gives up root, so that port 80 and ``--uid``
    go together.  An address that cannot be bound is an error of the start, not a line in the log.

    ``room`` says whether there is a descriptor for one more client; without, who comes waits in the kernel.
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
        """The listener's name; a configuration that is read again may give it another one."""
        self.answers_health = False
        """Whether it goes on accepting in a drain, to answer health checks."""
        self.endpoint = endpoint
        self._served = CurrentFactory(factory)
        self._binding = Binding(endpoint, reactor, inherited)
        self._has_descriptors = room

    @property
    def port(self) -> IListeningPort | None:
        """The bound port, once it is."""
        return self._binding.port

    def serve(self, factory: Any) -> None:
        """Build the protocols of new connections with this; those that stand keep theirs."""
        self._served.current = factory

    def privilegedStartService(self) -> None:
        """Bind; raises Unbound."""
        super().privilegedStartService()
        try:
            self._binding.bind(self._served)
        except Exception as error:
            raise BindError(f"listener {self.label}: {error}") from error
        if self.port is not None:
            cast(Any, self.port).has_descriptors = self._has_descriptors
            self._log.info("listener {name} listening on {address}", name=self.label, address=self.address())

    def startService(self) -> None:
        if self.port is None:  # embedded: nobody called privilegedStartService
            self.privilegedStartService()
        super().startService()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return self._binding.release()

    def address(self) -> str:
        """Where it listens, as a person would write it."""
        return self._binding.address


class CurrentFactory(Factory):
    """What a port builds its protocols with, whatever that is at the moment."""

    noisy = False

    def __init__(self, current: Any) -> None:
        self.current = current

    def buildProtocol(self, addr: Any) -> Any:
        return self.current.buildProtocol(addr)
