"""Signals that a process is born deaf to: they are kept for it until it knows what they mean."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

BLOCKED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""What is sent to the master, and to everybody around it; all of them end a process that is new."""


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Who is started meanwhile inherits the mask through its exec: there is no moment without it.

    Dispositions would not do: Twisted gives a new process the default ones.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_signals() -> None:
    """Hear what was kept, unless it is ignored by now, and what comes."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)
