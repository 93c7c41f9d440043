"""Ends the logins and consoles of users that were taken out of a file while no process watched it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from esxiproxy.authenticators.login_store import end_removed
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.interfaces import IState
from esxiproxy.net.upstream.decision import Plugin

RETRY_INTERVAL = 5.0
"""Seconds between two attempts to read the logins."""


class RemovedUsers(Service):
    """Compares the stored logins with the users that authenticators have, once after its start.

    ``plugins`` are the authenticators by their sections.
    """

    _log = Logger()

    def __init__(self, state: IState, plugins: Mapping[str, Plugin], clock: Any) -> None:
        self._state = state
        self._plugins = plugins
        self._clock = clock
        self._running: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._failed)

    def stopService(self) -> None:
        super().stopService()
        running, self._running = self._running, None
        if running is not None:
            running.cancel()

    async def _run(self) -> None:
        checks = {
            section: check
            for section, plugin in self._plugins.items()
            if (check := getattr(plugin.instance, "is_removed", None)) is not None
        }
        if not checks:
            return
        while True:
            try:
                ended = await end_removed(self._state, checks)
                break
            except StateUnavailable as error:
                self._log.warn(
                    "cannot look for logins of removed users, the next attempt is in {seconds:g} s: {error}",
                    seconds=RETRY_INTERVAL,
                    error=error,
                )
            await deferLater(self._clock, RETRY_INTERVAL)
        if ended:
            self._log.info("ended the logins of {count} users who were removed meanwhile", count=ended)

    def _failed(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            self._log.failure("cannot end the logins of removed users", failure)
