"""The sessions of a simulated vCenter, and the accounts that wrong passwords lock."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from twisted.internet.interfaces import IReactorTime

from esxiproxy.sim.tickets import TicketStore
from esxiproxy.sim.vcenter import soap_faults
from esxiproxy.sim.vcenter.collector import CollectorObject
from esxiproxy.sim.vcenter.objects import ManagedObject
from esxiproxy.sim.vcenter.options import VCenterOptions
from esxiproxy.sim.vcenter.soap import Ref, Since, Structure, structure

COOKIE: Final = "vmware_soap_session"
CLONE_LIFETIME: Final = 300.0
"""Seconds for which a ticket makes another session of the same user."""
_CLONE_PREFIX: Final = "cst-VCT-"


@dataclass(slots=True, eq=False)
class VCenterSession:
    """One login, with the views and collectors that end with it."""

    key: str
    """A name of the session that is no secret."""
    user: str
    token: str = field(repr=False)
    created: datetime
    last_used: float
    calls: int = 0
    objects: dict[Ref, ManagedObject] = field(default_factory=dict)
    continuations: dict[str, list[Structure]] = field(default_factory=dict)

    @property
    def collectors(self) -> list[CollectorObject]:
        """The property collectors, the session's default one included."""
        return [each for each in self.objects.values() if isinstance(each, CollectorObject)]

    def describe(self, now: datetime) -> Structure:
        """Return the session in vSphere's form."""
        return structure(
            "UserSession",
            key=self.key,
            userName=self.user,
            fullName=self.user.partition("@")[0],
            loginTime=self.created,
            lastActiveTime=now,
            locale="en",
            messageLocale="en",
            extensionSession=Since((5, 0), False),
            ipAddress=Since((5, 1), "127.0.0.1"),
            userAgent=Since((5, 1), ""),
            callCount=Since((5, 1), self.calls),
        )


class SessionStore:
    """The open sessions. `opened` is called with each new one, and `now` returns the time of day."""

    def __init__(
        self,
        options: VCenterOptions,
        clock: IReactorTime,
        now: Callable[[], datetime],
        opened: Callable[[VCenterSession], None],
    ) -> None:
        self.now = now
        self.logins = 0
        self.failed_logins = 0
        self.logouts = 0
        self.password = options.password
        self._options = options
        self._clock = clock
        self._opened = opened
        self._sessions: dict[str, VCenterSession] = {}
        self._clones: TicketStore[str] = TicketStore(clock.seconds, CLONE_LIFETIME)
        self._failures: deque[float] = deque()
        self._locked_until: float | None = None

    def __len__(self) -> int:
        self._end_idle()
        return len(self._sessions)

    @property
    def all(self) -> tuple[VCenterSession, ...]:
        """The open sessions, the oldest first."""
        return tuple(self._sessions.values())

    @property
    def locked(self) -> bool:
        """Whether wrong passwords have locked the account."""
        return self._locked_until is not None and self._clock.seconds() < self._locked_until

    def log_in(self, user: str, password: str) -> VCenterSession:
        """Return a new session. Raises VimFault for a wrong user or password, and for a locked account."""
        known = user == self._options.user and secrets.compare_digest(
            password.encode("utf-8"), self.password.encode("utf-8")
        )
        if self.locked or not known:
            self.failed_logins += 1
            self._count_failure()
            raise soap_faults.invalid_login()
        self._failures.clear()
        self.logins += 1
        return self._open(user)

    def clone_ticket(self, session: VCenterSession) -> str:
        """Return a ticket that makes another session of the same user, once."""
        return _CLONE_PREFIX + self._clones.issue(session.user)

    def clone(self, ticket: str) -> VCenterSession:
        """Return the new session of a ticket. Raises VimFault for one that is unknown, used or expired."""
        user = self._clones.redeem(ticket.removeprefix(_CLONE_PREFIX))
        if user is None or not ticket.startswith(_CLONE_PREFIX):
            raise soap_faults.invalid_login()
        return self._open(user)

    def _open(self, user: str) -> VCenterSession:
        session = VCenterSession(
            secrets.token_hex(16), user, secrets.token_hex(20), self.now(), self._clock.seconds()
        )
        self._sessions[session.token] = session
        self._opened(session)
        return session

    def find(self, token: str | None) -> VCenterSession | None:
        """Return the session of a cookie or a field and count it as used; None if it has ended."""
        self._end_idle()
        session = self._sessions.get(token or "")
        if session is not None:
            session.last_used = self._clock.seconds()
            session.calls += 1
        return session

    def log_out(self, session: VCenterSession) -> None:
        """End a session at its own wish."""
        self.logouts += 1
        self._end(session)

    def end_all(self) -> int:
        """End every session, also those that wait for updates, and return their number."""
        sessions = self.all
        for session in sessions:
            self._end(session)
        return len(sessions)

    def _end(self, session: VCenterSession) -> None:
        del self._sessions[session.token]
        for collector in session.collectors:
            collector.cancel(soap_faults.not_authenticated(collector.ref))

    def _end_idle(self) -> None:
        now = self._clock.seconds()
        for session in self.all:
            if any(collector.waiting for collector in session.collectors):
                # A wait for updates counts as use.
                session.last_used = now
            elif now - session.last_used > self._options.session_idle:
                self._end(session)

    def _count_failure(self) -> None:
        now = self._clock.seconds()
        self._failures.append(now)
        while self._failures and now - self._failures[0] > self._options.lockout_window:
            self._failures.popleft()
        if self._options.lockout_after and len(self._failures) >= self._options.lockout_after:
            self._locked_until = now + self._options.lockout_time
