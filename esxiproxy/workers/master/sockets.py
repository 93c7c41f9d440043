"""The listening sockets, which the master binds and the workers accept on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.protocol import Factory
from twisted.logger import Logger

from esxiproxy.binding import Binding, match_endpoints
from esxiproxy.core.config.model import MANHOLE
from esxiproxy.core.startup import BindError

Endpoints = Sequence[tuple[str, str]]
Bindings = Mapping[str, Binding]


class _NullFactory(Factory):
    """A factory for ports that never accept."""

    noisy = False


class Sockets:
    """The sockets of all endpoints, on which only the workers accept.

    Until a worker accepts, a connection waits in the kernel's queue.  A socket stays bound while any worker
    may accept on it.  A renamed listener keeps its socket.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._bound: dict[str, Binding] = {}
        self._former: list[Binding] = []

    def bind(self, endpoints: Endpoints) -> Bindings:
        """Return a binding for each (name, endpoint), by name; bind those that are new.

        Raises BindError, and then releases the new bindings.
        """
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

    def keep(self, bound: Bindings) -> None:
        """Make these the current bindings; ``release_others`` closes all others."""
        known = [*self._former, *self._bound.values()]
        self._former = [binding for binding in known if binding not in bound.values()]
        self._bound = dict(bound)

    def release_new(self, bound: Bindings) -> None:
        """Close those of the bindings that are new, after a reload that failed."""
        for binding in bound.values():
            if binding not in self._bound.values() and binding not in self._former:
                binding.release()

    def release_others(self) -> None:
        """Close the bindings that are not current."""
        former, self._former = self._former, []
        for binding in former:
            self._log.info("stopped listening on {address}", address=binding.address)
            binding.release()

    def release_all(self) -> None:
        """Close all bindings in this process; a draining worker may still accept health checks."""
        self.keep({})
        former, self._former = self._former, []
        for binding in former:
            binding.release(shared=True)

    def _new(self, name: str, endpoint: str) -> Binding:
        what = "manhole" if name == MANHOLE else f"listener {name}"
        binding = Binding(endpoint, self._reactor)
        try:
            binding.bind(_NullFactory())
        except Exception as error:
            raise BindError(f"{what}: {error}") from error
        port: Any = binding.port
        try:
            port.stopReading()
            port.fileno()
        except AttributeError as error:
            binding.release()
            raise BindError(f"{what}: workers cannot share {endpoint}, since it has no socket") from error
        self._log.info("{what} listening on {address}", what=what, address=binding.address)
        return binding
