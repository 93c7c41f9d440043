"""An authenticator for clients that have logged in on the portal's page: the cookie of their login."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from zope.interface import implementer

from esxiproxy.authenticators.keys import REAUTHENTICATION
from esxiproxy.authenticators.login_store import COOKIE, LoginStore, key_in
from esxiproxy.core.config.key import PROVIDERS
from esxiproxy.core.config.model import Http
from esxiproxy.core.http.request import Request
from esxiproxy.core.routing import Principal
from esxiproxy.interfaces import IAuthenticator, IReauthenticator, IState
from esxiproxy.plugins import (
    AUTHENTICATOR,
    DURATION,
    DURATION_OR_OFF,
    Context,
    Key,
    Names,
    SectionValues,
)

AUTOMATIC = b"x-automatic-request"
"""The field, in lower case, of requests that a page of the portal sends without a user."""


@implementer(IAuthenticator, IReauthenticator)
class SessionAuthenticator:
    """An authenticator that knows the logins of the portal by their cookie.

    The portal itself makes and ends them, in the admin process.  What an open page asks by itself is no use
    of a login, and an open console is one.
    """

    ambient = True
    consumed_cookies = frozenset({COOKIE})

    def __init__(
        self, settings: SectionValues, context: Context, time_of_day: Callable[[], float] = time.time
    ) -> None:
        self.vouches_for = sections_of(settings)
        self._logins = login_store(settings, context.section, context.state, time_of_day)

    async def authenticate(self, request: Request) -> Principal | None:
        key = key_in(request.head.values(b"cookie"))
        if key is None:
            return None
        return await self._logins.find(key, is_use=not _is_automatic(request))

    def remember(self, request: Request, principal: Principal) -> str:
        """Return the id of the login."""
        return principal.login

    async def reauthenticate(self, remembered: str) -> Principal | None:
        """Return the principal of the login of an open console; None if it has ended."""
        return await self._logins.find(remembered, is_use=True)


def _is_automatic(request: Request) -> bool:
    """Return whether an open page sends a request without a user.

    These are event streams, pictures, measurements, and the requests that the page marks.
    """
    head = request.head
    if head.method == b"HEAD" or head.values(AUTOMATIC):
        return True
    accepted = [value.strip().lower() for value in head.values(b"accept")]
    if any(b"text/event-stream" in value or value.startswith(b"image/") for value in accepted):
        return True
    return b"image" in head.values(b"sec-fetch-dest")


def sections_of(settings: SectionValues) -> frozenset[str]:
    """Return the sections of the providers, such as ``authenticator staff``."""
    return frozenset(f"authenticator {name}" for name in settings["providers"])


def login_store(
    settings: SectionValues, section: str, state: IState, time_of_day: Callable[[], float] = time.time
) -> LoginStore:
    """Return the logins of a section of this type."""
    providers = sections_of(settings)
    return LoginStore(state, section, settings["lifetime"], settings["idle"], providers, time_of_day)


class SessionType:
    """The type ``session``."""

    name = "session"
    help = "Knows clients that have logged in on the page of a listener with http = portal, by a cookie."
    keys = (
        Key(
            "providers",
            AUTHENTICATOR,
            PROVIDERS,
            None,
            "Authenticators that the login form asks, separated by commas: names of sections that can check "
            "a password.",
            required=True,
        ),
        Key(
            "lifetime",
            AUTHENTICATOR,
            DURATION,
            "12h",
            "Time after which a login ends, and its consoles with it, however much it is used.",
        ),
        Key(
            "idle",
            AUTHENTICATOR,
            DURATION_OR_OFF,
            "1h",
            "Time without a request of its user after which a login ends. An open page that is not used does "
            "not extend it, and input in a page of the portal does. Open consoles stay open, unless "
            "`reauthenticate` is set: each check of an open console is a use.",
        ),
        *REAUTHENTICATION,
    )

    def conflicts(self, settings: SectionValues, names: Names) -> Iterator[tuple[str, str]]:
        """Yield the mistakes of a section."""
        idle: float | None = settings["idle"]
        if idle is not None and idle > settings["lifetime"]:
            yield "idle", "is longer than lifetime, which ends a login first: write a shorter time, or off"

    def listener_warnings(self, settings: SectionValues, listener: SectionValues) -> Iterator[str]:
        """Yield a warning for a listener that has no page to log in on."""
        if listener["http"] is not Http.PORTAL:
            yield "has no login form on this listener: set http = portal"

    def create(self, settings: SectionValues, context: Context) -> SessionAuthenticator:
        """Return the authenticator."""
        return SessionAuthenticator(settings, context)


TYPE = SessionType()
