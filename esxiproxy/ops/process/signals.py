"""Handles the signals that stop the process, reload its configuration and reopen its log."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_HANDLED_SIGNALS = (*_STOP_SIGNALS, signal.SIGHUP)


class SignalReactor(Protocol):
    """The part of a reactor that the signal handlers use."""

    def addSystemEventTrigger(
        self, phase: str, eventType: str, callable: Callable[..., Any], *args: object
    ) -> object:
        """Call ``callable`` at an event of the reactor, such as before its start."""

    def callWhenRunning(self, callable: Callable[..., Any], *args: object) -> object:
        """Call ``callable`` when the reactor runs."""

    def callFromThread(self, callable: Callable[..., Any], *args: object) -> None:
        """Call ``callable`` in the reactor's thread, which also wakes it."""

    def stop(self) -> None:
        """Stop the reactor.  Raises ReactorNotRunning."""


class Signals(Service):
    """The handlers of SIGTERM, SIGINT, SIGHUP and SIGUSR1.

    The first SIGTERM or SIGINT stops the services, and the process exits with status 0.  The second one calls
    ``abort``.  SIGHUP calls ``reload``, and SIGUSR1 calls ``reopen``; a handler of SIGUSR1 that is installed
    later has to call this one.  When the reactor starts, Twisted installs its own handlers, under which the
    signal kills the process.  So these are installed again after that; in between the signals are blocked.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: SignalReactor,
        reload: Callable[[], object],
        abort: Callable[[], object],
        reopen: Callable[[], object],
    ) -> None:
        self.setName("signals")
        self._reactor = reactor
        self._reload = reload
        self._abort = abort
        self._reopen = reopen
        self._ending = False

    def privilegedStartService(self) -> None:
        """Install the handlers, whose effect is delayed until the reactor runs."""
        super().privilegedStartService()
        self._install()
        signal.signal(signal.SIGUSR1, self._on_reopen_signal)
        self._reactor.addSystemEventTrigger("before", "startup", _set_mask, signal.SIG_BLOCK)
        self._reactor.callWhenRunning(self._on_reactor_running)

    def _on_reactor_running(self) -> None:
        self._install()
        _set_mask(signal.SIG_UNBLOCK)

    def _install(self) -> None:
        for number in _HANDLED_SIGNALS:
            signal.signal(number, self._on_signal)
            signal.siginterrupt(number, False)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._handle, signal.Signals(number))

    def _on_reopen_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._reopen)

    def _handle(self, name: signal.Signals) -> None:
        if name not in _STOP_SIGNALS and self._ending:
            self._log.info("{name} is ignored, since the process is shutting down", name=name.name)
        elif name not in _STOP_SIGNALS:
            self._log.info("{name}: reading the configuration again", name=name.name)
            self._reload()
        elif self._ending:
            self._log.info("{name} again: ending at once", name=name.name)
            self._abort()
        else:
            self._ending = True
            self._log.info("{name}: shutting down; once more ends it at once", name=name.name)
            self._stop()

    def _stop(self) -> None:
        try:
            self._reactor.stop()
        except ReactorNotRunning:  # another caller has stopped it
            self._abort()


def _set_mask(how: int) -> None:
    signal.pthread_sigmask(how, _HANDLED_SIGNALS)
