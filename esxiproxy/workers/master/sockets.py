"""The listening sockets, which the master binds and the workers accept on."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from esxiproxy.binding import Binding, match_endpoints, set_socket_group
from esxiproxy.core.config.model import ADMIN_MANHOLE, ADMIN_SOCKET, MANHOLE
from esxiproxy.core.startup import BindError
from esxiproxy.workers.shared.reactor import IProcessReactor

Endpoints = Sequence[tuple[str, str]]
Bindings = Mapping[str, Binding]


class _NullFactory(Factory):
    """A factory for ports that never accept."""

    noisy = False


class Sockets:
    """The sockets of all endpoints, on which only the workers accept.

    Until a worker accepts, a connection waits in the kernel's queue.  A socket stays bound while any worker
    may accept on it.  A renamed listener keeps its socket.  The unix socket of [admin] keeps its file while
    its path stays, whatever its group.
    """

    _log = Logger()

    def __init__(self, reactor: IProcessReactor) -> None:
        self._reactor = reactor
        self._bound: dict[str, Binding] = {}
        self._former: list[Binding] = []
        self._restores: list[Callable[[], None]] = []
        """Functions that give the unix sockets their former group back."""

    def bind(self, endpoints: Endpoints, group: str = "") -> Bindings:
        """Return a binding for each (name, endpoint), by name; bind those that are new.

        A unix socket whose file was removed is bound again.
        ``group`` is that of the unix sockets of [admin] and of the manhole, which get it when all are bound.
        Raises BindError, and then releases the new bindings.
        """
        there = [*self._bound.items(), *(("", binding) for binding in self._former)]
        usable = [(name, each.endpoint, each) for name, each in there if not each.is_removed]
        bound = match_endpoints(endpoints, usable)
        new: list[Binding] = []
        try:
            for name, endpoint in endpoints:
                if name not in bound:
                    bound[name] = self._new(name, endpoint)
                    new.append(bound[name])
            for name in _OF_GROUP:
                if name in bound:
                    self._restores.append(_set_group(bound[name], group))
        except BindError:
            self._restore_groups()
            for binding in new:
                binding.release()
            raise
        return bound

    def keep(self, bound: Bindings) -> None:
        """Make these the current bindings; ``release_others`` closes all others."""
        self._restores.clear()
        known = [*self._former, *self._bound.values()]
        self._former = [binding for binding in known if binding not in bound.values()]
        self._bound = dict(bound)

    def release_new(self, bound: Bindings) -> None:
        """Close the new ones of the bindings of a failed reload, and give a kept socket its former group."""
        self._restore_groups()
        for binding in bound.values():
            if binding not in self._bound.values() and binding not in self._former:
                binding.release()

    def _restore_groups(self) -> None:
        restores, self._restores = self._restores, []
        for restore in restores:
            restore()

    def release_others(self) -> None:
        """Close the bindings that are not current."""
        former, self._former = self._former, []
        for binding in former:
            self._log.info("stopped listening on {address}", address=binding.address)
            binding.release()

    def release_all(self, but: Collection[str] = ()) -> Deferred[Any]:
        """Close all bindings in this process, except those of these names.

        They are not shut down: a draining worker may still accept health checks.
        """
        self.keep({name: binding for name, binding in self._bound.items() if name in but})
        former, self._former = self._former, []
        return DeferredList([binding.release(shared=True) for binding in former])

    def _new(self, name: str, endpoint: str) -> Binding:
        what = _label(name)
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


def _label(name: str) -> str:
    if name == MANHOLE:
        return "manhole"
    return f"[admin] {name.split()[1]}" if name.startswith(_ADMIN) else f"listener {name}"


_ADMIN = " admin "
"""The beginning of the names of the sockets of [admin]."""


_OF_GROUP = (ADMIN_SOCKET, ADMIN_MANHOLE)
"""The unix sockets that a group may open."""


def _set_group(binding: Binding, group: str) -> Callable[[], None]:
    host: Any = binding.port.getHost() if binding.port is not None else None
    return set_socket_group(os.fsdecode(host.name), group)
