"""Blocks signals in a new process until it has installed its handlers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

BLOCKED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""Signals that operators send to the process group of the master, and that end a process without handlers."""


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block the signals in this context; a process that is spawned in it starts with them blocked.

    Ignoring the signals would have no effect, since Twisted restores the default handlers in a new process.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_signals() -> None:
    """Unblock the signals, and deliver those that are pending and not ignored."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)
