"""Eventfds with which workers wake each other to check their balance."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress


def new_wakes(count: int) -> tuple[int, ...]:
    """Create ``count`` eventfds.  Raises OSError, and closes those that were created already."""
    wakes: list[int] = []
    try:
        for _ in range(count):
            wakes.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
    except OSError:
        for descriptor in wakes:
            os.close(descriptor)
        raise
    return tuple(wakes)


def wake(wakes: Iterable[int]) -> None:
    """Wake the workers with these eventfds, so that they read the scoreboard."""
    for descriptor in wakes:
        with suppress(BlockingIOError):  # the counter is full: the worker wakes anyway
            os.eventfd_write(descriptor, 1)
