"""What signals mean to the process: its end, another look at the configuration, a new file for its log."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.application.service import Service
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

_END = (signal.SIGTERM, signal.SIGINT)
_ALL = (*_END, signal.SIGHUP)


class Signals(Service):
    """Ends the process with status 0 when the services have stopped, and at once when asked again.

    ``reload`` is called for each SIGHUP, ``abort`` when the end is to be at once, and ``reopen`` for each
    SIGUSR1, which whoever has another file takes later and passes on.  Twisted's own end the process by the
    very signal, and take the second one for a bug.  They are installed when the loop begins, so ours are
    installed again just behind them; what comes in between is held back.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
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
        """From here on, whatever comes is done as soon as the loop runs."""
        super().privilegedStartService()
        self._install()
        signal.signal(signal.SIGUSR1, self._signalled_to_reopen)
        self._reactor.addSystemEventTrigger("before", "startup", _mask, signal.SIG_BLOCK)
        self._reactor.callWhenRunning(self._running)

    def _running(self) -> None:
        self._install()
        _mask(signal.SIG_UNBLOCK)

    def _install(self) -> None:
        for number in _ALL:
            signal.signal(number, self._signalled)
            signal.siginterrupt(number, False)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._act, signal.Signals(number))

    def _signalled_to_reopen(self, _number: int, _frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._reopen)

    def _act(self, name: signal.Signals) -> None:
        if name not in _END and self._ending:
            self._log.info("{name}: not now, it is shutting down", name=name.name)
        elif name not in _END:
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
        except ReactorNotRunning:  # somebody else has stopped it, and it still ends
            self._abort()


def _mask(how: int) -> None:
    signal.pthread_sigmask(how, _ALL)
