"""Ends consoles whose login has ended: at the expiry of the principal, or when a check fails."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.core.errors import AccessDenied, LoginEnded
from esxiproxy.core.routing import Principal
from esxiproxy.core.session.record import CONSOLE, Record
from esxiproxy.core.session.session import Session
from esxiproxy.interfaces import ISessionObserver
from esxiproxy.net.sessions import LiveSession, log_bug

_AT_A_TIME = 8
"""Checks of logins that run at a time."""
_JITTER = 0.1
"""Part of the interval by which a check may be earlier or later."""
_LONGEST = 86400.0
"""Seconds after which a distant expiry is looked at again, since clocks are set."""


@dataclass(eq=False, slots=True)
class _Login:
    """The login of one session.  ``plugin`` is the authenticator to ask, None if only the expiry counts."""

    session: Session
    plugin: Any
    remembered: object
    failing_since: float | None = None
    timer: IDelayedCall | None = None
    expiry: IDelayedCall | None = None
    check: Deferred[Any] | None = None


@implementer(ISessionObserver)
class Logins:
    """An observer that checks the logins of open consoles.

    ``find`` returns the live session of an id.  ``time_of_day`` reads the wall clock.
    """

    _log = Logger()

    def __init__(
        self,
        find: Callable[[str], LiveSession],
        clock: IReactorTime,
        time_of_day: Callable[[], float] = time.time,
        random_part: Callable[[], float] = random.random,
    ) -> None:
        self._find = find
        self._clock = clock
        self._time_of_day = time_of_day
        self._random_part = random_part
        self._logins: dict[str, _Login] = {}
        self._semaphore = DeferredSemaphore(_AT_A_TIME)

    def __len__(self) -> int:
        return len(self._logins)

    def remember(self, session: Session, plugin: Any) -> None:
        """Note the login of a session before its head is forgotten.

        ``plugin`` is the authenticator that knows the client.  An exception in it is raised.
        """
        principal = session.principal
        if principal is None or session.kind is not CONSOLE:
            return
        if plugin.reauthenticate is not None:
            remembered = plugin.instance.remember(session.request, principal)
            self._logins[session.id] = _Login(session, plugin, remembered)
        elif principal.expires is not None:
            self._logins[session.id] = _Login(session, None, None)

    def opened(self, session: Session) -> None:
        """Start the timers of a console."""
        login = self._logins.get(session.id)
        if login is None or session.principal is None:
            return
        if session.principal.expires is not None:
            # In a later turn: the relay starts after the observers were notified.
            login.expiry = self._clock.callLater(0, self._await_expiry, login, session.principal.expires)
        if login.plugin is not None:
            self._schedule(login)

    def closed(self, record: Record) -> None:
        """Forget the login of a session that has ended."""
        login = self._logins.pop(record.session, None)
        if login is None:
            return
        for timer in (login.timer, login.expiry):
            if timer is not None and timer.active():
                timer.cancel()
        if login.check is not None:
            login.check.cancel()

    def _await_expiry(self, login: _Login, expires: float) -> None:
        left = expires - self._time_of_day()
        if left <= 0:
            self._end(login)
            return
        login.expiry = self._clock.callLater(min(left, _LONGEST), self._await_expiry, login, expires)

    def _schedule(self, login: _Login) -> None:
        seconds = login.plugin.reauthenticate * (1 + _JITTER * (2 * self._random_part() - 1))
        login.timer = self._clock.callLater(seconds, self._check, login)

    def _check(self, login: _Login) -> None:
        login.check = checking = self._semaphore.run(self._ask, login)
        checking.addCallback(self._answered, login).addErrback(self._failed, login)

    def _ask(self, login: _Login) -> Deferred[Principal | None]:
        asking = Deferred.fromCoroutine(_reauthenticate(login))
        return asking.addTimeout(login.session.limits.decision_timeout, self._clock)

    def _answered(self, principal: Principal | None, login: _Login) -> None:
        login.check = None
        before = login.session.principal
        if login.session.id not in self._logins or before is None:
            return
        if principal is None or principal.name != before.name:
            self._end(login)
            return
        login.failing_since = None
        if principal.expires is not None:
            if login.expiry is not None and login.expiry.active():
                login.expiry.cancel()
            self._await_expiry(login, principal.expires)
        if login.session.id in self._logins:
            self._schedule(login)

    def _failed(self, failure: Failure, login: _Login) -> None:
        """End the console if the login is refused, or if it could not be checked for the grace period."""
        login.check = None
        if login.session.id not in self._logins:
            return
        if failure.check(AccessDenied):
            self._end(login)
            return
        now = self._clock.seconds()
        if login.failing_since is None:
            login.failing_since = now
            log_bug(
                self._log,
                f"the {login.plugin.section} cannot check a login; it counts for {login.plugin.grace:g} s",
                failure,
                login.session.id,
            )
        if now - login.failing_since >= login.plugin.grace:
            self._end(login)
        else:
            self._schedule(login)

    def _end(self, login: _Login) -> None:
        try:
            live = self._find(login.session.id)
        except KeyError:
            return
        live.end(LoginEnded("login ended"))


async def _reauthenticate(login: _Login) -> Principal | None:
    answer: Principal | None = await login.plugin.instance.reauthenticate(login.remembered)
    return answer
