"""The type of the reactor that the master, the workers and the admin process run."""

from __future__ import annotations

from twisted.internet.interfaces import (
    IReactorCore,
    IReactorFDSet,
    IReactorFromThreads,
    IReactorProcess,
    IReactorTime,
)


class IProcessReactor(IReactorCore, IReactorTime, IReactorProcess, IReactorFDSet, IReactorFromThreads):
    """The parts of a reactor that the processes use.  All reactors of Linux have them."""
