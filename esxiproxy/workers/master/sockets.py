"""The listening sockets: bound once, by the master, and served by the workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.protocol import Factory
from twisted.logger import Logger

from esxiproxy.binding import Binding, match_endpoints
from esxiproxy.core.config.model import MANHOLE
from esxiproxy.core.startup import BindError

Endpoints = Sequence[tuple[str, str]]
Bound = Mapping[str, Binding]


class _Nothing(Factory):
    """What the master serves."""

    noisy = False


class Sockets:
    """Binds endpoints and accepts nothing: connections wait in the kernel's queue until a worker takes them.

    A socket stays bound for as long as anybody may accept on it, under whatever name: who is bound to an
    endpoint already, keeps it when the listener is called something else.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._bound: dict[str, Binding] = {}
        self._former: list[Binding] = []

    def bind(self, endpoints: Endpoints) -> Bound:
        """A socket for each of these, by name.  Raises Unbound, and then none of the new ones is left."""
        there = [*self._bound.items(), *(("", binding) for binding in self._former)]
        bound = match_endpoints(endpoints, [(name, binding.endpoint, binding) for name, binding in there])
        new: list[Binding] = []
        try:
            for name, endpoint in endpoints:
                if name not in bound:
                    bound[name] = self._new(name, endpoint)
                    new.append(bound[name])
        except BindError:
            for binding in new:
                binding.release()
            raise
        return bound

    def keep(self, bound: Bound) -> None:
        """These are the ones from now on; ``release_others`` closes what nobody needs then."""
        known = [*self._former, *self._bound.values()]
        self._former = [binding for binding in known if binding not in bound.values()]
        self._bound = dict(bound)

    def release_new(self, bound: Bound) -> None:
        """It comes to nothing: close what was bound for it alone."""
        for binding in bound.values():
            if binding not in self._bound.values() and binding not in self._former:
                binding.release()

    def release_others(self) -> None:
        """Close those that are kept no longer."""
        former, self._former = self._former, []
        for binding in former:
            self._log.info("{address} is closed", address=binding.address)
            binding.release()

    def release_all(self) -> None:
        """Close everything; a worker that drains may go on answering health checks."""
        self.keep({})
        former, self._former = self._former, []
        for binding in former:
            binding.release(shared=True)

    def _new(self, name: str, endpoint: str) -> Binding:
        what = "manhole" if name == MANHOLE else f"listener {name}"
        binding = Binding(endpoint, self._reactor)
        try:
            binding.bind(_Nothing())
        except Exception as error:
            raise BindError(f"{what}: {error}") from error
        port: Any = binding.port
        try:
            port.stopReading()
            port.fileno()
        except AttributeError as error:
            binding.release()
            raise BindError(f"{what}: workers cannot share {endpoint}: it has no socket") from error
        self._log.info("{what} listening on {address}", what=what, address=binding.address)
        return binding
