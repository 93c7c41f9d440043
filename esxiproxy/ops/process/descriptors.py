"""The limit on open file descriptors, and whether one more session fits into it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from twisted.logger import Logger

from esxiproxy.core.startup import StartupError

RESERVE = 64
"""Descriptors that no session uses: for refused clients, the log, the state and name look-ups."""
_FD_DIRECTORY = "/proc/self/fd"
_RECOUNT_EVERY = 64
"""Calls after which the open descriptors are counted again, at most."""
_PER_SESSION = 2
"""Descriptors of a session: the client's socket and the upstream's."""
_OPENED_LATER = 3
"""Descriptors that are opened after the start and stay open: the reactor's pair of sockets for signals, and
with the first connection the epoll set of the transports."""
_OPENED_PER_CALL = 3
"""Descriptors that each call since the last count may have opened: client, upstream, name look-up."""

_HOW_TO_RAISE = "raise it (LimitNOFILE= in systemd, ulimit -n in a shell, --ulimit nofile= in a container)"


class Descriptors:
    """The limit of the process on open files (RLIMIT_NOFILE), and the number of open ones.

    ``may_admit`` refuses a session before the kernel refuses a descriptor, so that an admitted session can
    always dial.  While many descriptors are free, they are not counted at each call.  ``used`` returns the
    number of open descriptors.
    """

    _log = Logger()

    def __init__(self, used: Callable[[], int] | None = None, reserve: int = RESERVE) -> None:
        self._used = used or used_descriptors
        self._reserve = reserve
        self._count, self._calls = 0, _RECOUNT_EVERY
        self.limit = _limits()[0]
        """The largest number of open descriptors; infinite where the platform has no limit."""

    @property
    def sessions(self) -> int | None:
        """The number of sessions that fit into the limit, None when there is no limit."""
        return sessions_within(self.limit, self._reserve)

    def raise_limit(self) -> None:
        """Raise the limit as :meth:`raise_to_hard_limit` does, and log how many sessions fit into it."""
        self.raise_to_hard_limit()
        self._log.info(
            "open files: {limit}, which is enough for {sessions} sessions",
            limit="unlimited" if self.sessions is None else int(self.limit),
            sessions="any number of" if self.sessions is None else self.sessions,
        )

    def raise_to_hard_limit(self, children: int = 0) -> None:
        """Raise the limit to what the system grants.

        ``children`` is the number of descriptors that this process opens for its child processes.  Raises
        StartupError when the limit is too low for one session or for the child processes.
        """
        soft, hard = _limits()
        if soft < hard and not _set_limit(hard):
            self._log.warn("the limit on open files stays at {soft:g}, below {hard:g}", soft=soft, hard=hard)
        self.limit = _limits()[0]
        self._require(_PER_SESSION)
        used = self._used()
        if used + children > self.limit:
            raise StartupError(
                f"the limit on open files, {self.limit:g}, is too low for the workers: {used} are open and "
                f"the workers need {children}, so at least {used + children} are needed: {_HOW_TO_RAISE}"
            )

    def check_started(self, later: int = 0) -> None:
        """Check the limit again when the process has started.  Raises StartupError if no session fits.

        ``later`` is the number of descriptors that a service of the process opens after its start.
        """
        self._require(_PER_SESSION + _OPENED_LATER + later)

    def _require(self, more: int) -> None:
        used = self._used()
        if used + more > self.limit - self._reserve:
            needed = used + self._reserve + more
            raise StartupError(
                f"the limit on open files, {self.limit:g}, leaves none for a session: {used} are open and "
                f"{self._reserve} are reserved, so at least {needed} are needed: {_HOW_TO_RAISE}"
            )

    def may_admit(self, dials: int = 0) -> bool:
        """Return whether one more session, whose client is connected, can dial its upstream.

        ``dials`` is the number of admitted sessions that have not dialled yet.
        """
        return self._fits(dials + 1, self._reserve)

    def may_accept(self, dials: int = 0) -> bool:
        """Return whether one more client may be accepted, if only to be refused.

        The descriptors for ``dials`` admitted sessions and half of the reserve have to stay free.
        """
        return self._fits(dials + 1, self._reserve // 2)

    def _fits(self, more: int, reserve: int) -> bool:
        self._calls += 1
        if (
            self._calls < _RECOUNT_EVERY
            and self._count + _OPENED_PER_CALL * self._calls + more <= self.limit - reserve
        ):
            return True
        self._count, self._calls = self._used(), 0
        return self._count + more <= self.limit - reserve


def used_descriptors() -> int:
    """Return the number of open descriptors of this process, 0 where the platform has no such number.

    Since Linux 6.2 the size of /proc/self/fd is that number; on an older kernel the directory is listed.
    """
    try:
        return os.stat(_FD_DIRECTORY).st_size or len(os.listdir(_FD_DIRECTORY)) - 1
    except OSError:
        return 0


def explain(error: OSError) -> str:
    """Return the text of an error, with the limit on open files when that is the cause.

    posix_spawn(3) fails with EBADF for a descriptor that was opened before the limit was lowered below it.
    """
    if error.errno in (errno.EBADF, errno.EMFILE):
        return f"{error.strerror}; the limit on open files is {_limits()[0]:g}: {_HOW_TO_RAISE}"
    return str(error.strerror)


def sessions_within(limit: float, reserve: int = RESERVE) -> int | None:
    """Return the number of sessions for which a limit on open files is enough, None for no limit."""
    return None if limit == float("inf") else max(0, int(limit) - reserve) // _PER_SESSION


def hard_limit() -> float:
    """Return the limit on open files to which this process may raise its own, infinite without one."""
    return _limits()[1]


def _limits() -> tuple[float, float]:
    """Return the soft and the hard limit."""
    try:
        import resource
    except ImportError:  # Windows
        return float("inf"), float("inf")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = resource.RLIM_INFINITY
    return float("inf") if soft == endless else soft, float("inf") if hard == endless else hard


def _set_limit(hard: float) -> bool:
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    except (ValueError, OSError):  # macOS grants less than its hard limit
        return False
    return _limits()[0] == hard
