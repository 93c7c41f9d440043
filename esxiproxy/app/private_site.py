"""Serves one private site of the admin process on a unix socket."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.protocols.policies import WrappingFactory

from esxiproxy.binding import Binding
from esxiproxy.core.private_sites import PrivateSites
from esxiproxy.core.startup import StartupError

_BACKLOG = 4096
"""Connections that wait to be accepted: a full queue would refuse those of workers."""

_STOP_TIMEOUT = 2.0
"""Seconds within which requests in flight are answered at the stop."""
_CHECK_INTERVAL = 0.05


class PrivateSite(Service):
    """A site on its own socket, from ``open`` on.

    Its owner alone may open the socket.  ``make_factory`` returns the protocol factory.  If it has
    ``in_flight``, the number of requests without an answer, they have two seconds at the end.
    """

    def __init__(self, sites: PrivateSites, name: str, make_factory: Callable[[], Any], reactor: Any) -> None:
        self._path, self._link = sites.own(name), sites.newest(name)
        self._make_factory = make_factory
        self._reactor = reactor
        self._connections: Any = None
        escaped = re.sub(r"([\\:=])", r"\\\1", str(self._path))
        self._binding = Binding(f"unix:{escaped}:mode=600:backlog={_BACKLOG}", reactor)

    def open(self) -> None:
        """Bind the socket, and let the link lead to it.  Raises StartupError."""
        try:
            self._connections = WrappingFactory(self._make_factory())
            self._connections.noisy = False
            self._binding.bind(self._connections)
            _replace_link(self._link, self._path)
        except Exception as error:
            raise StartupError(f"the socket {self._path} cannot be bound: {error}") from error

    def stopService(self) -> Deferred[None]:
        super().stopService()
        with suppress(OSError):
            if os.readlink(self._link) == str(self._path):
                self._link.unlink()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._binding.release()
        if self._connections is None:
            return
        site, end = self._connections.wrappedFactory, self._reactor.seconds() + _STOP_TIMEOUT
        while getattr(site, "in_flight", 0) and self._reactor.seconds() < end:
            await deferLater(self._reactor, _CHECK_INTERVAL)
        for connection in list(self._connections.protocols):
            connection.transport.loseConnection()


def _replace_link(link: Path, path: Path) -> None:
    """Let a symbolic link lead to a path, with no moment at which it leads nowhere."""
    aside = link.with_name(f".{link.name}.{secrets.token_hex(4)}")
    aside.symlink_to(path)
    os.replace(aside, link)
