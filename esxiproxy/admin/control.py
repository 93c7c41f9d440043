"""The interface of the process that the admin service runs in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from esxiproxy.core.config.errors import Problem
from esxiproxy.core.config.model import Config
from esxiproxy.core.reload_outcome import ReloadOutcome as ReloadOutcome
from esxiproxy.interfaces import IState


class Control(Protocol):
    """The proxy of one machine, as the admin service sees it.

    ``machine`` is the name of the machine and ``run`` the id of this run of the proxy, which ends with its
    master.  ``started`` is a time of day.
    """

    machine: str
    run: str
    started: float
    state: IState

    @property
    def config(self) -> Config:
        """The configuration in force."""

    def in_thread(self, call: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
        """Call a function that may block in a thread, and return its result."""

    def reload(self) -> Awaitable[ReloadOutcome]:
        """Put the configuration file into force, on this machine."""

    def check(self) -> Awaitable[Sequence[Problem]]:
        """Return the problems of the configuration file, errors and warnings."""

    def unready(self) -> Awaitable[Sequence[str]]:
        """Return why new consoles would not be admitted now, in sentences; nothing if they would."""

    def is_alive(self) -> bool:
        """Return whether the master and at least one worker give signs of life."""
