"""An address, and the port that is bound to it."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure

Bound = TypeVar("Bound")


class Binding:
    """Binds a Twisted endpoint description, and says where that is.

    With ``inherited``, a socket that listens already, that one is served: the description is not looked at,
    and the socket goes on listening for whoever shares it when this binding is released.
    """

    def __init__(self, endpoint: str, reactor: Any, inherited: socket.socket | None = None) -> None:
        self.endpoint = endpoint
        self.port: IListeningPort | None = None
        """The bound port, once it is."""
        self._reactor = reactor
        self._inherited = inherited

    def bind(self, factory: Any) -> None:
        """Listen from now on.  Raises what the endpoint fails with."""
        if self._inherited is not None:
            self._inherited.setblocking(False)
            descriptor, family = self._inherited.fileno(), self._inherited.family
            self.port = self._reactor.adoptStreamPort(descriptor, family, factory)
            return
        endpoint: Any = serverFromString(self._reactor, self.endpoint)
        if isinstance(endpoint, AdoptedStreamServerEndpoint):
            # systemd's socket stays open, so that its number means the same when it is wanted again.
            cast(Any, endpoint)._close = lambda _descriptor: None
        failures: list[Failure] = []
        endpoint.listen(factory).addCallbacks(self._bound, failures.append)
        if failures:
            failures[0].raiseException()

    def _bound(self, port: IListeningPort) -> None:
        self.port = port

    def release(self) -> Deferred[None]:
        """Listen no longer."""
        port, self.port = self.port, None
        return succeed(None) if port is None else maybeDeferred(cast(Any, port.stopListening))

    @property
    def address(self) -> str:
        """Where it listens, as a person would write it."""
        assert self.port is not None
        host: Any = self.port.getHost()
        if not hasattr(host, "port"):
            name = host.name
            return f"unix:{name.decode() if isinstance(name, bytes) else name}"
        return f"[{host.host}]:{host.port}" if ":" in host.host else f"{host.host}:{host.port}"


def kept(wanted: Iterable[tuple[str, str]], bound: Iterable[tuple[str, str, Bound]]) -> dict[str, Bound]:
    """What each of the wanted (name, endpoint) goes on with, of what is bound (name, endpoint, thing).

    That is what has its endpoint and its name, or else one that had another name.
    """
    wanted, free, found = list(wanted), list(bound), dict[str, Bound]()
    for own in (True, False):
        for name, endpoint in wanted:
            for each in free:
                if name not in found and each[1] == endpoint and (not own or each[0] == name):
                    found[name] = each[2]
                    free.remove(each)
                    break
    return found
