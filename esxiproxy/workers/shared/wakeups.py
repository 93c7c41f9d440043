"""Eventfds that wake the workers which share a socket."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress


def new_wakes(count: int) -> tuple[int, ...]:
    """An eventfd for each of so many workers.  Raises OSError, and then none of them is left."""
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
    """Have these workers look at the board."""
    for descriptor in wakes:
        with suppress(BlockingIOError):  # it has been told often enough
            os.eventfd_write(descriptor, 1)
