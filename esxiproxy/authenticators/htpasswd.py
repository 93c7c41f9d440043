"""An authenticator that knows users by name and password, with a password file of ``htpasswd``."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.authenticators.keys import ON_REMOVED, REAUTHENTICATION
from esxiproxy.authenticators.login_store import USER_REMOVED
from esxiproxy.authenticators.login_throttle import LoginThrottle
from esxiproxy.authenticators.password_checks import PasswordChecks
from esxiproxy.authenticators.password_file import PasswordFileError, Passwords, read_passwords
from esxiproxy.core.errors import AccessDenied
from esxiproxy.core.http.basic import basic_challenge, basic_credentials
from esxiproxy.core.http.request import Request
from esxiproxy.core.passwords import PasswordHash
from esxiproxy.core.routing import Challenge, Principal
from esxiproxy.core.session.command import Selector, SelectorKind
from esxiproxy.core.session.connection_limits import client_network
from esxiproxy.interfaces import IAuthenticator, IPasswordCheck, IReauthenticator
from esxiproxy.plugins import AUTHENTICATOR, BadValue, Context, Key, Names, SectionValues, path, plain
from esxiproxy.plugins.watched_files import OnRemoved, WatchedFiles

_REALM = re.compile(r"[ !#-\[\]-~]{1,64}")
_CONSUMED = frozenset({b"authorization"})
_NO_NETWORK = "unix"
"""The network of clients without an address."""
_MAX_OPENING = 4096
"""Sessions between their login and ``remember``."""


@dataclass(frozen=True, slots=True)
class _Remembered:
    """The login of a console: the user and the hash that was checked."""

    name: str
    password_hash: PasswordHash | None = field(repr=False)


@implementer(IAuthenticator, IReauthenticator, IPasswordCheck)
class Htpasswd:
    """An authenticator for Basic credentials (RFC 7617) and for the password of a login form."""

    ambient = True

    def __init__(
        self,
        file: Path,
        context: Context,
        realm: str = "consoles",
        on_removed: OnRemoved = OnRemoved.KEEP,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._file = file
        self._context = context
        self._field = basic_challenge(realm)
        self._on_removed = on_removed
        throttle = LoginThrottle(context.state, f"{context.section} failed logins", time_of_day)
        self._checks = PasswordChecks(Passwords({}), context, throttle)
        self._opening: OrderedDict[str, PasswordHash] = OrderedDict()
        self._files = WatchedFiles([file], context, partial(read_passwords, file), self._loaded, self._failed)

    async def ready(self) -> None:
        """Read the file.  Raise BadValue if it has mistakes."""
        if self._files.value is None:
            self._checks.replace(await self._files.current())

    async def authenticate(self, request: Request) -> Principal | None:
        try:
            credentials = basic_credentials(request.head)
        except AccessDenied as error:
            raise self._refused(str(error)) from None
        if credentials is None:
            return None
        await self.ready()
        network = client_network(request.client.host)
        known = await self._checks.check(credentials.name, credentials.password, network or _NO_NETWORK)
        if known is None:
            raise self._refused("wrong user name or password")
        self._opening[request.session] = known
        while len(self._opening) > _MAX_OPENING:
            self._opening.popitem(last=False)
        return Principal(credentials.name, consumed=_CONSUMED)

    def challenge(self, request: Request) -> Challenge:
        """Return the field that asks for a name and a password."""
        return Challenge((self._field,))

    async def check_password(self, name: str, password: str, network: str | None) -> Principal | None:
        """Return the principal with this name and password, as a login form asks; None for a wrong one.

        ``network`` is that of the client.  Raises AccessDenied for a network with too many failed logins.
        """
        await self.ready()
        known = await self._checks.check(name, password, network or _NO_NETWORK)
        return None if known is None else Principal(name)

    def remember(self, request: Request, principal: Principal) -> object:
        """Return what ``reauthenticate`` needs, before the head of the request is discarded."""
        known = self._opening.pop(request.session, None)
        return _Remembered(principal.name, known or self._users.get(principal.name))

    async def reauthenticate(self, remembered: object) -> Principal | None:
        """Return the principal of an earlier login; None if the user is gone or has another password."""
        assert isinstance(remembered, _Remembered)
        known = self._users.get(remembered.name)
        return Principal(remembered.name) if known is not None and known == remembered.password_hash else None

    def is_removed(self, name: str) -> bool:
        """Return whether the logins of a user end because the file does not have the user.

        No user is removed before the file was read.
        """
        if self._on_removed is OnRemoved.KEEP or self._files.value is None:
            return False
        return name not in self._users

    @property
    def _users(self) -> Mapping[str, PasswordHash]:
        return self._checks.passwords.users

    def _refused(self, text: str) -> AccessDenied:
        error = AccessDenied(text, status=401)
        error.fields = (self._field,)
        return error

    def _loaded(self, passwords: Passwords) -> None:
        """Use another version of the file, and end the consoles of users that are not in it."""
        before = self._checks.passwords.users
        removed = sorted(before.keys() - passwords.users.keys())
        self._checks.replace(passwords)
        self._context.log.info(
            "[{section}] {file} is read again: {count} users, {removed} removed",
            section=self._context.section,
            file=str(self._file),
            count=len(passwords.users),
            removed=len(removed),
        )
        if self._on_removed is OnRemoved.END:
            for name in removed:
                ending = Deferred.fromCoroutine(self._end(name))
                ending.addErrback(self._log_failure, "cannot end the consoles of a removed user")

    async def _end(self, name: str) -> None:
        of_this_file = f"{self._context.section.partition(' ')[2]}/{name}"
        await self._context.end_sessions(Selector(SelectorKind.PRINCIPAL, of_this_file), USER_REMOVED)

    def _failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, BadValue):
            self._log_failure(failure, "cannot read its file")
            return
        self._context.log.error(
            "[{section}] {file} has mistakes and the version before stays in use: {error}",
            section=self._context.section,
            file=str(self._file),
            error=str(failure.value),
        )

    def _log_failure(self, failure: Failure, text: str) -> None:
        self._context.log.failure("[{section}] {text}", failure, section=self._context.section, text=text)


class HtpasswdType:
    """The type ``htpasswd``."""

    name = "htpasswd"
    is_provider = True
    """Whether a login form may ask it."""
    help = "Asks for a name and a password (Basic) and looks them up in a file of Apache's htpasswd."
    keys = (
        Key(
            "file",
            AUTHENTICATOR,
            path("file"),
            None,
            "Password file of `htpasswd -B`, with hashes of bcrypt, argon2, `{SHA}` or apr1. It is read "
            "again when it changes; a version with mistakes is not used.",
            required=True,
        ),
        Key(
            "realm",
            AUTHENTICATOR,
            plain("text", lambda text: _realm(text)),
            "consoles",
            "Name of the login, which a browser shows.",
        ),
        ON_REMOVED,
        *REAUTHENTICATION,
    )

    def conflicts(self, settings: SectionValues, names: Names) -> Iterator[tuple[str, str]]:
        """Yield the lines of the file with a mistake."""
        try:
            read_passwords(settings["file"])
        except PasswordFileError as error:
            for mistake in error.mistakes:
                yield "file", str(mistake)
        except BadValue as error:
            yield "file", str(error)

    def create(self, settings: SectionValues, context: Context) -> Htpasswd:
        """Return the authenticator."""
        return Htpasswd(settings["file"], context, settings["realm"], settings["on_removed"])


def _realm(text: str) -> str:
    """Return a realm that needs no escapes in a quoted string (RFC 9110 5.6.4).  Raises BadValue."""
    if not _REALM.fullmatch(text):
        raise BadValue("is no realm: 1 to 64 characters of ASCII, without quotes and backslashes")
    return text


TYPE = HtpasswdType()
