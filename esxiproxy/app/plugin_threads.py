"""The threads of one plugin, for its blocking calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.threads import deferToThreadPool

from esxiproxy.core.errors import LimitReached
from esxiproxy.state.thread import DaemonThreads

THREADS = 2
"""Calls that run at a time."""
MAX_WAITING = 64
"""Calls that wait for a thread."""


class PluginThreads(Service):
    """Two threads for the blocking calls of one plugin.

    They are started by the first call, so that a plugin without such calls has none.
    """

    def __init__(self, section: str, reactor: Any) -> None:
        self._section = section
        self._reactor = reactor
        self._pool: Any = None
        self._is_stopped = False
        self._calls = 0

    @property
    def is_unused(self) -> bool:
        """Whether no call was made."""
        return self._pool is None

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Deferred[Any]:
        """Call a function in a thread and return its result.

        Fails with LimitReached when as many calls wait as may wait, and with CancelledError after the stop.
        """
        if self._is_stopped:
            return fail(CancelledError(f"[{self._section}] has stopped"))
        if self._calls >= THREADS + MAX_WAITING:
            return fail(LimitReached(f"[{self._section}] has {MAX_WAITING} calls waiting for a thread"))
        if self._pool is None:
            self._pool = DaemonThreads(self._section, THREADS)
            self._pool.start()
        self._calls += 1
        result: Deferred[Any] = Deferred(lambda _: None)  # a call that runs in a thread cannot be cancelled

        def ended(outcome: Any) -> None:
            self._calls -= 1
            if not result.called:
                result.callback(outcome)

        call = partial(function, *arguments, **named)
        deferToThreadPool(self._reactor, self._pool, call).addBoth(ended)
        return result

    def stopService(self) -> None:
        super().stopService()
        self._is_stopped = True
        if self._pool is not None:
            self._pool.stop()
            self._pool = None
