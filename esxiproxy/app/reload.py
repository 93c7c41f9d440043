"""Reads the configuration again for a service that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from esxiproxy.app.preflight import load_checked
from esxiproxy.core.config.loader import Config, ConfigError
from esxiproxy.core.startup import StartupError


class Reloadable(Protocol):
    """What runs from a configuration and can go on with another one (ProxyService, for one)."""

    systemd: Any

    def reload(self, config: Config) -> Deferred[None]:
        """Go on with this configuration; fails, and everything is as it was."""


class Reload:
    """The file of a running service; each call reads it, and hands it over if nothing is wrong with it.

    ``path`` has to be absolute, since a daemon changes its folder.  Whatever is wrong is in the log, systemd
    is told of the beginning and of the end, and nobody has to look at the Deferred.  A file with thousands of
    hosts takes a while: it is read in a thread, while consoles go on.
    """

    _log = Logger()

    def __init__(self, path: Path, service: Reloadable, reactor: Any) -> None:
        assert path.is_absolute()
        self._path = path
        self._service = service
        self._reactor = reactor
        self._turn = DeferredLock()

    def __call__(self) -> Deferred[None]:
        return self._turn.run(lambda: Deferred.fromCoroutine(self._reload()))

    async def _reload(self) -> None:
        self._service.systemd.reloading()
        try:
            pool = self._reactor.getThreadPool()
            config = await deferToThreadPool(self._reactor, pool, load_checked, self._path)
            await self._service.reload(config)
        except ConfigError as error:
            for problem in error.problems:
                log = self._log.error if problem.is_error else self._log.warn
                log("{problem}", problem=problem)
            self._log_rejected("the file has problems")
        except (StartupError, ValueError) as error:
            self._log_rejected(str(error).rstrip("."))
        except Exception:
            self._log.failure("a bug, ours or a plugin's")
            self._log_rejected("an internal error")
        else:
            self._log.info("reload: {path} is in force", path=self._path)
        self._service.systemd.ready()

    def _log_rejected(self, why: str) -> None:
        self._log.error("reload: {why}; everything stays as it was", why=why)
