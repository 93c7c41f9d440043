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
from twisted.logger import Logger

from esxiproxy.binding import Binding
from esxiproxy.core.private_sites import PrivateSites
from esxiproxy.core.startup import StartupError

_BACKLOG = 4096
"""Connections that wait to be accepted: a full queue would refuse those of workers."""


class PrivateSite(Service):
    """A site on its own socket, from ``open`` on.

    Its owner alone may open the socket.  ``make_factory`` returns the protocol factory.
    """

    _log = Logger()

    def __init__(self, sites: PrivateSites, name: str, make_factory: Callable[[], Any], reactor: Any) -> None:
        self._path, self._link = sites.own(name), sites.newest(name)
        self._make_factory = make_factory
        escaped = re.sub(r"([\\:=])", r"\\\1", str(self._path))
        self._binding = Binding(f"unix:{escaped}:mode=600:backlog={_BACKLOG}", reactor)

    def open(self) -> None:
        """Bind the socket, and let the link lead to it.  Raises StartupError."""
        try:
            self._binding.bind(self._make_factory())
            _replace_link(self._link, self._path)
        except Exception as error:
            raise StartupError(f"the socket {self._path} cannot be bound: {error}") from error

    def stopService(self) -> Deferred[None]:
        super().stopService()
        with suppress(OSError):
            if os.readlink(self._link) == str(self._path):
                self._link.unlink()
        return self._binding.release()


def _replace_link(link: Path, path: Path) -> None:
    """Let a symbolic link lead to a path, with no moment at which it leads nowhere."""
    aside = link.with_name(f".{link.name}.{secrets.token_hex(4)}")
    aside.symlink_to(path)
    os.replace(aside, link)
