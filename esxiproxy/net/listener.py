"""A bound port, with what is served on it."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.core.problem import Unbound


class ListenerService(Service):
    """Binds one address while it runs.

    Binding happens in ``privilegedStartService``: before twistd gives up root, so that port 80 and ``--uid``
    go together.  An address that cannot be bound is an error of the start, not a line in the log.
    """

    _log = Logger()

    def __init__(self, name: str, endpoint: str, factory: Factory, reactor: Any) -> None:
        self.setName(f"listener {name}")
        self._label = name
        self._endpoint = endpoint
        self._factory = factory
        self._reactor = reactor
        self.port: IListeningPort | None = None
        """The bound port, once it is."""

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        failures: list[Failure] = []
        serverFromString(self._reactor, self._endpoint).listen(self._factory).addCallbacks(
            self._bound, failures.append
        )
        if failures:
            raise Unbound(f"listener {self._label}: {failures[0].getErrorMessage()}")

    def _bound(self, port: IListeningPort) -> None:
        self.port = port
        self._log.info("listener {name} listening on {address}", name=self._label, address=self.address())

    def startService(self) -> None:
        if self.port is None:  # embedded: nobody called privilegedStartService
            self.privilegedStartService()
        super().startService()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        port, self.port = self.port, None
        return succeed(None) if port is None else Deferred.fromCoroutine(_stop_listening(port))

    def address(self) -> str:
        """Where it listens, as a person would write it."""
        assert self.port is not None
        host: Any = self.port.getHost()
        if not hasattr(host, "port"):
            name = host.name
            return f"unix:{name.decode() if isinstance(name, bytes) else name}"
        return f"[{host.host}]:{host.port}" if ":" in host.host else f"{host.host}:{host.port}"


async def _stop_listening(port: IListeningPort) -> None:
    stopping = port.stopListening()
    if stopping is not None:
        await stopping
