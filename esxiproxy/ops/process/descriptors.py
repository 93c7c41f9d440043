"""File descriptors: how many there may be, and whether there are enough for one more session."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from twisted.logger import Logger

from esxiproxy.core.startup import StartupError

RESERVE = 64
"""Descriptors that no session gets: clients that are being refused, the log, the state, name look-ups."""
_FOLDER = "/proc/self/fd"
_RECOUNT_EVERY = 64
"""Questions that one count is good for, at most."""
_SESSION = 2
"""Descriptors of a session: its client and its upstream."""
_OPENED_LATER = 3
"""Descriptors that are opened after the start and stay open: the reactor's pair of sockets for signals, and
with the first connection the epoll set of the transports."""
_EACH = 3
"""Descriptors that may have been opened since for each of them: a client, its upstream, a name look-up."""

_HOW_TO_RAISE = "raise it (LimitNOFILE= in systemd, ulimit -n in a shell, --ulimit nofile= in a container)"


class Descriptors:
    """The process's limit on open files (RLIMIT_NOFILE), and what is used of it.

    ``used`` counts the open descriptors; ``may_admit`` refuses before the kernel does, so that a session that
    was admitted can always dial.  Where there are plenty, a count serves for a while.
    """

    _log = Logger()

    def __init__(self, used: Callable[[], int] | None = None, reserve: int = RESERVE) -> None:
        self._used = used or used_descriptors
        self._reserve = reserve
        self._count, self._asked = 0, _RECOUNT_EVERY
        self.limit = _limits()[0]
        """How many there may be; infinite where the platform has no limit."""

    @property
    def sessions(self) -> int | None:
        """How many sessions that allows, with two descriptors each; None when there is no limit."""
        if self.limit == float("inf"):
            return None
        return max(0, int(self.limit) - self._reserve) // _SESSION

    def raise_limit(self) -> None:
        """Do as :meth:`take_all`, and log how many sessions the limit is good for."""
        self.take_all()
        self._log.info(
            "open files: {limit}, which is enough for {sessions} sessions",
            limit="unlimited" if self.sessions is None else int(self.limit),
            sessions="any number of" if self.sessions is None else self.sessions,
        )

    def take_all(self, children: int = 0) -> None:
        """Raise the limit to what the system grants.

        ``children`` is the number of descriptors that this process opens for its child processes.  Raises
        StartupError when the limit is too low for one session or for the child processes.
        """
        soft, hard = _limits()
        if soft < hard and not _set_limit(hard):
            self._log.warn("the limit on open files stays at {soft:g}, below {hard:g}", soft=soft, hard=hard)
        self.limit = _limits()[0]
        self._require(_SESSION)
        used = self._used()
        if used + children > self.limit:
            raise StartupError(
                f"the limit on open files, {self.limit:g}, is too low for the workers: {used} are open and "
                f"the workers need {children}, so at least {used + children} are needed: {_HOW_TO_RAISE}"
            )

    def check_started(self) -> None:
        """Raise StartupError if no session can be served, now that all that runs all the time is open."""
        self._require(_SESSION + _OPENED_LATER)

    def _require(self, more: int) -> None:
        used = self._used()
        if used + more > self.limit - self._reserve:
            needed = used + self._reserve + more
            raise StartupError(
                f"the limit on open files, {self.limit:g}, leaves none for a session: {used} are open and "
                f"{self._reserve} are reserved, so at least {needed} are needed: {_HOW_TO_RAISE}"
            )

    def may_admit(self, dials: int = 0) -> bool:
        """Whether one more session, its client being connected, can dial.

        ``dials`` are sessions that were admitted and have yet to dial.
        """
        return self._have(dials + 1, self._reserve)

    def may_accept(self, dials: int = 0) -> bool:
        """Whether one more client may come in, if only to be refused.

        It gets none of what ``dials`` admitted sessions need, nor the last half of the reserve.
        """
        return self._have(dials + 1, self._reserve // 2)

    def _have(self, more: int, reserve: int) -> bool:
        self._asked += 1
        if self._asked < _RECOUNT_EVERY and self._count + _EACH * self._asked + more <= self.limit - reserve:
            return True
        self._count, self._asked = self._used(), 0
        return self._count + more <= self.limit - reserve


def used_descriptors() -> int:
    """Open descriptors of this process; 0 where that cannot be told.

    Since Linux 6.2 the folder's size is their number, which costs a microsecond and no descriptor; before, a
    millisecond for each few thousand.
    """
    try:
        return os.stat(_FOLDER).st_size or len(os.listdir(_FOLDER)) - 1
    except OSError:
        return 0


def explain(error: OSError) -> str:
    """Return the text of an error, with the limit on open files when that is the cause.

    posix_spawn(3) fails with EBADF for a descriptor that was opened before the limit was lowered below it.
    """
    if error.errno in (errno.EBADF, errno.EMFILE):
        return f"{error.strerror}; the limit on open files is {_limits()[0]:g}: {_HOW_TO_RAISE}"
    return str(error.strerror)


def _limits() -> tuple[float, float]:
    """Soft and hard."""
    try:
        import resource
    except ImportError:  # no such thing there
        return float("inf"), float("inf")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = resource.RLIM_INFINITY
    return float("inf") if soft == endless else soft, float("inf") if hard == endless else hard


def _set_limit(hard: float) -> bool:
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    except (ValueError, OSError):  # macOS grants less than it says
        return False
    return _limits()[0] == hard
