"""The logins that the portal has made: who has logged in, and until when, in the shared state.

A login is known by its id, the SHA-256 of the random text in its cookie.  The state has no such text, so a
database that is read opens nothing.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, replace

from esxiproxy.core.errors import AccessDenied
from esxiproxy.core.login_rows import LOGINS
from esxiproxy.core.routing import Principal
from esxiproxy.core.sealing import key_of
from esxiproxy.core.session.claim import RateClaim
from esxiproxy.core.session.command import Command, CommandKind, Selector, SelectorKind
from esxiproxy.core.strict_json import strict_json
from esxiproxy.interfaces import IState

COOKIE = b"__Host-esxiproxy"
"""The name of the cookie.  By its prefix, browsers take it over TLS, for one host and all of its paths."""
ACTIVITY = "login-activity"
"""The space with the time of the last use of a login; it has no row after ``idle``."""
LOGIN_ENDED = "login ended"
"""The reason with which the consoles of a login are closed at its logout."""
USER_REMOVED = "user removed"
"""The reason with which the consoles of a removed user are closed."""
LOGINS_AT_ONCE = 100
LOGIN_INTERVAL = 10
"""Logins that are stored for one user: at once, and the seconds until each further one."""
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_PAGE = 500


@dataclass(frozen=True, slots=True)
class StoredLogin:
    """A login: the section of its session authenticator, its principal, and when it began and ends.

    ``subject`` and ``session`` are the names that the provider itself has for the user and the login.
    """

    section: str
    principal: Principal
    created: float
    expires: float
    subject: str = ""
    session: str = ""

    def is_named_by(self, subject: str, session: str) -> bool:
        """Return whether a logout of the provider is for this login; one of its names may be empty.

        A login whose ID token had no session is named by its subject, whatever session the logout has.
        """
        if subject and subject != self.subject:
            return False
        return session == self.session if session and self.session else bool(subject)

    def text(self) -> str:
        """Return the login as a value of the state."""
        principal = self.principal
        return json.dumps(
            {
                "section": self.section,
                "principal": principal.name,
                "provider": principal.authenticator,
                "groups": sorted(principal.groups),
                "created": self.created,
                "expires": self.expires,
                "subject": self.subject,
                "session": self.session,
            }
        )

    @classmethod
    def parse(cls, text: str | None) -> StoredLogin | None:
        """Return the login in a value of the state; None for no value, or one of another version."""
        try:
            found = strict_json((text or "").encode())
            principal = Principal(
                str(found["principal"]),
                groups=frozenset(map(str, found["groups"])),
                authenticator=str(found["provider"]),
            )
            return cls(
                str(found["section"]),
                principal,
                float(found["created"]),
                float(found["expires"]),
                str(found.get("subject", "")),
                str(found.get("session", "")),
            )
        except (ValueError, KeyError, TypeError):
            return None


def new_token() -> str:
    """Return the text of a new cookie, of 256 random bits."""
    return secrets.token_urlsafe(32)


class LoginStore:
    """The logins of one session authenticator.

    A login lives for ``lifetime`` seconds, and for ``idle`` seconds after its last use, None for no such end.
    ``providers`` are the sections that may have made it.
    """

    def __init__(
        self,
        state: IState,
        section: str,
        lifetime: float,
        idle: float | None,
        providers: Collection[str],
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._section = section
        self._lifetime = lifetime
        self._idle = idle
        self._providers = frozenset(providers)
        self._time_of_day = time_of_day

    async def create(self, principal: Principal, subject: str = "", session: str = "") -> tuple[str, float]:
        """Store a new login, and return the text of its cookie and the seconds for which it lives.

        ``subject`` and ``session`` are the names that the provider has for the user and the login.  Raises
        AccessDenied with status 429 for a user who logs in too often, so that no user fills the state.
        """
        token, now = new_token(), self._time_of_day()
        key = key_of(token)
        name = f"{self._section} logins {principal.names[1]}"
        rate = RateClaim("logins", name, 1 / LOGIN_INTERVAL, LOGINS_AT_ONCE)
        if await self._state.take(f"login {key}", (rate,)) is not None:
            error = AccessDenied("this user has logged in too often: try again later", status=429)
            error.fields = ((b"Retry-After", b"%d" % LOGIN_INTERVAL),)
            raise error
        login = StoredLogin(self._section, principal, now, now + self._lifetime, subject, session)
        await self._touch(key, now)
        await self._state.put(LOGINS, key, login.text(), login.expires)
        return token, self._lifetime

    async def find(self, key: str, is_use: bool) -> Principal | None:
        """Return the principal of a login; None if it has ended.  ``is_use`` begins its idle time again."""
        login = StoredLogin.parse(await self._state.get(LOGINS, key))
        now = self._time_of_day()
        if login is None or login.section != self._section or now >= login.expires:
            return None
        if login.principal.authenticator not in self._providers:
            return None
        if self._idle is not None:
            used = _number(await self._state.get(ACTIVITY, key))
            if used is None or now >= used + self._idle:
                await self._state.remove(LOGINS, key)
                return None
            if is_use and abs(now - used) >= min(60.0, self._idle / 10):
                await self._touch(key, now)
        return replace(
            login.principal,
            expires=login.expires,
            consumed_cookies=frozenset({COOKIE}),
            login=key,
        )

    async def end(self, key: str) -> None:
        """End a login, and close its consoles in all processes."""
        await self._state.remove(LOGINS, key)
        await self._state.remove(ACTIVITY, key)
        await self._state.tell(
            Command(CommandKind.KILL, reason=LOGIN_ENDED, selector=Selector(SelectorKind.LOGIN, key))
        )

    async def end_those_of(self, provider: str, subject: str, session: str) -> int:
        """End the logins that a provider names by a subject, a session or both, and return their number."""
        ended = 0
        async for key, login in _stored_logins(self._state):
            if (
                login.section == self._section
                and login.principal.authenticator == provider
                and login.is_named_by(subject, session)
            ):
                await self.end(key)
                ended += 1
        return ended

    async def _touch(self, key: str, now: float) -> None:
        if self._idle is not None:
            await self._state.put(ACTIVITY, key, repr(now), now + self._idle)


async def end_logins_of(state: IState, name: str) -> int:
    """End all logins of a principal, written ``SECTION/NAME``, and return their number."""
    ended = 0
    async for key, login in _stored_logins(state):
        if login.principal.names[1] == name:
            await state.remove(LOGINS, key)
            ended += 1
    return ended


async def end_removed(state: IState, checks: Mapping[str, Callable[[str], bool]]) -> int:
    """End the logins and the consoles of users that their provider does not have any more.

    ``checks`` say by the section of a provider whether it has removed the user of a name.  Return the number
    of users.
    """
    removed: set[str] = set()
    async for key, login in _stored_logins(state):
        check = checks.get(login.principal.authenticator)
        if check is not None and check(login.principal.name):
            await state.remove(LOGINS, key)
            removed.add(login.principal.names[1])
    for name in sorted(removed):
        selector = Selector(SelectorKind.PRINCIPAL, name)
        await state.tell(Command(CommandKind.KILL, reason=USER_REMOVED, selector=selector))
    return len(removed)


async def _stored_logins(state: IState) -> AsyncIterator[tuple[str, StoredLogin]]:
    after = ""
    while True:
        page = await state.items(LOGINS, after, _PAGE)
        for key, text in page:
            if (login := StoredLogin.parse(text)) is not None:
                yield key, login
        if len(page) < _PAGE:
            return
        after = page[-1][0]


def key_in(cookies: Collection[bytes]) -> str | None:
    """Return the id of the login in the values of Cookie fields; None without exactly one."""
    pairs = (pair.partition(b"=") for value in cookies for pair in value.split(b";"))
    found = {value.strip() for name, _, value in pairs if name.strip() == COOKIE}
    if len(found) != 1:
        return None
    text = found.pop().decode("latin-1")
    return key_of(text) if _TOKEN.fullmatch(text) else None


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
