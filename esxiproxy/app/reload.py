"""Reloads the configuration of a running service."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from esxiproxy.app.preflight import load_checked
from esxiproxy.core.config.loader import Config, ConfigError
from esxiproxy.core.reload_outcome import ReloadOutcome
from esxiproxy.core.startup import StartupError


class Reloadable(Protocol):
    """A service with a configuration that can be replaced, such as ProxyService."""

    systemd: Any

    def reload(self, config: Config) -> Deferred[None]:
        """Replace the configuration; when that fails, nothing changes and the Deferred fails."""


class Reload:
    """The reload of a service: each call reads the configuration file and applies it if it is valid.

    ``path`` has to be absolute, since a daemon changes its directory.  All problems are logged, systemd is
    notified of the beginning and of the end, and the Deferred never fails.  It fires with the outcome.
    Concurrent calls are serialised.
    The file is read in a thread, since a file with thousands of hosts would block the event loop.
    """

    _log = Logger()

    def __init__(self, path: Path, service: Reloadable, reactor: Any) -> None:
        assert path.is_absolute()
        self._path = path
        self._service = service
        self._reactor = reactor
        self._lock = DeferredLock()

    def __call__(self) -> Deferred[ReloadOutcome]:
        return self._lock.run(lambda: Deferred.fromCoroutine(self._reload()))

    async def _reload(self) -> ReloadOutcome:
        self._service.systemd.reloading()
        outcome = await self._outcome()
        self._service.systemd.ready()
        return outcome

    async def _outcome(self) -> ReloadOutcome:
        try:
            pool = self._reactor.getThreadPool()
            config = await deferToThreadPool(self._reactor, pool, load_checked, self._path)
            await self._service.reload(config)
        except ConfigError as error:
            for problem in error.problems:
                log = self._log.error if problem.is_error else self._log.warn
                log("{problem}", problem=problem)
            return self._rejected("the file has problems", *map(str, error.problems))
        except (StartupError, ValueError) as error:
            return self._rejected(str(error).rstrip("."))
        except Exception:
            self._log.failure("reload: internal error in the proxy or in a plugin")
            return self._rejected("an internal error")
        self._log.info("reload: {path} is in force", path=self._path)
        return ReloadOutcome(True)

    def _rejected(self, why: str, *problems: str) -> ReloadOutcome:
        self._log.error("reload: {why}; everything stays as it was", why=why)
        return ReloadOutcome(False, problems or (why,))
