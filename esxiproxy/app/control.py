"""The control of the proxy by the admin service, in the process that runs the service."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from esxiproxy.app.preflight import load_checked
from esxiproxy.core.config.errors import Problem
from esxiproxy.core.config.loader import Config, ConfigError
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.reload_outcome import ReloadOutcome
from esxiproxy.core.session.drain import Drains
from esxiproxy.core.session.drain_table import DrainTable
from esxiproxy.interfaces import IState

STATE_TIMEOUT = 0.5
"""Seconds after which the readiness is told without a state that admits when it is down."""
SHUTTING_DOWN = "the proxy is shutting down"


class ProcessControl:
    """The parts of a control that are the same with and without a master.

    ``started`` is the time of day at which the proxy was started.
    """

    def __init__(self, identity: ProcessIdentity, state: IState, started: float, reactor: Any) -> None:
        self.identity = identity
        self.machine, self.run = identity.machine, identity.run
        self.state = state
        self.started = started
        self._drains = DrainTable(state, identity, time.time)
        self._last_drains = Drains(identity)
        """The drains that were read last."""
        self._reactor = reactor

    @property
    def config(self) -> Config:
        """The configuration in force."""
        raise NotImplementedError

    @property
    def path(self) -> Path:
        """The absolute path of the configuration file."""
        raise NotImplementedError

    def refusals(self) -> Sequence[str]:
        """Return why the processes of the proxy accept no consoles."""
        raise NotImplementedError

    def reload(self) -> Deferred[ReloadOutcome]:
        """Put the configuration file into force."""
        raise NotImplementedError

    def is_alive(self) -> bool:
        """Return whether the processes of the proxy give signs of life."""
        raise NotImplementedError

    def in_thread(self, call: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Call a function that may block in a thread, and return its result."""
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), call, *arguments)

    def check(self) -> Deferred[Sequence[Problem]]:
        """Return the problems of the configuration file, errors and warnings."""
        return self.in_thread(_problems, self.path)

    async def unready(self) -> Sequence[str]:
        """Return why new consoles would not be admitted now, in sentences."""
        found = list(self.refusals())
        try:
            found += await self._refusals_in_time()
        except StateUnavailable as error:
            if self.state.admits_when_down and error.is_away:
                found += self._drain_refusals(self._last_drains)
            else:
                found.append("the shared state is unavailable")
        return found

    def _refusals_in_time(self) -> Deferred[Sequence[str]]:
        """Return why no listener admits consoles, soon if consoles are admitted without the state."""
        reading = Deferred.fromCoroutine(self._listener_refusals())
        if self.state.admits_when_down:
            reading.addTimeout(STATE_TIMEOUT, self._reactor, onTimeoutCancel=_too_late)
        return reading

    def _drain_refusals(self, drains: Drains) -> Sequence[str]:
        """Return why drains let no listener admit consoles; nothing if one does."""
        if drains.proxy is not None:
            return ("the proxy is drained",)
        listeners = self.config.listeners
        if listeners and all(drains.of_listener(each.name) for each in listeners):
            return ("every listener is drained",)
        return ()

    async def _listener_refusals(self) -> Sequence[str]:
        """Return why no listener admits consoles; nothing if one does.  Reads the state twice at most."""
        self._last_drains = drains = Drains(self.identity, await self._drains.drains())
        if refusals := self._drain_refusals(drains):
            return refusals
        listeners = self.config.listeners
        claims = {
            each.name: each.connection_limits.of_listener(each.name)
            for each in listeners
            if drains.of_listener(each.name) is None
        }
        limited = [claim for claim in claims.values() if claim is not None]
        if len(limited) < len(claims) or not claims:
            return ()
        used = await self.state.in_use([claim.name for claim in limited])
        if any(used.get(claim.name, 0) < claim.limit_value for claim in limited):
            return ()
        others = "" if len(claims) == len(listeners) else " that is not drained"
        return (f"max_sessions of every listener{others} is reached",)


class SingleControl(ProcessControl):
    """The control of a proxy of one process.

    ``config`` returns the configuration in force, ``is_stopping`` whether the process shuts down, and
    ``reload`` puts the configuration file into force.
    """

    def __init__(
        self,
        identity: ProcessIdentity,
        state: IState,
        path: Path,
        config: Callable[[], Config],
        is_stopping: Callable[[], bool],
        reload: Callable[[], Deferred[ReloadOutcome]],
        reactor: Any,
    ) -> None:
        super().__init__(identity, state, time.time(), reactor)
        self._path = path
        self._config = config
        self._is_stopping = is_stopping
        self._reload = reload

    @property
    def config(self) -> Config:
        return self._config()

    @property
    def path(self) -> Path:
        return self._path

    def reload(self) -> Deferred[ReloadOutcome]:
        return self._reload()

    def refusals(self) -> Sequence[str]:
        return (SHUTTING_DOWN,) if self._is_stopping() else ()

    def is_alive(self) -> bool:
        return True  # the process answers


def _too_late(_outcome: Any, seconds: float) -> Any:
    raise StateUnavailable(f"the shared state did not answer within {seconds:g} s")


def _problems(path: Path) -> Sequence[Problem]:
    try:
        return load_checked(path).warnings
    except ConfigError as error:
        return error.problems
