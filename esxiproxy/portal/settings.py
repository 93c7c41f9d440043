"""The settings of the portal at one listener."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from esxiproxy.authenticators.login_store import LoginStore
from esxiproxy.authenticators.login_throttle import LoginThrottle


@dataclass(frozen=True, slots=True)
class Provider:
    """An authenticator that the login form asks: the name of its section, and its instance.

    It checks passwords itself (IPasswordCheck), or is a provider of OpenID Connect.
    """

    name: str
    check: Any

    @property
    def is_password(self) -> bool:
        """Whether it checks passwords itself."""
        return hasattr(self.check, "check_password")

    @property
    def section(self) -> str:
        """The header of its section."""
        return f"authenticator {self.name}"


@dataclass(frozen=True, slots=True)
class PortalListener:
    """A listener with ``http = portal``.

    ``logins`` are None where no authenticator of the listener knows logins of the portal.  ``embed`` are the
    origins of pages that may show the portal in a frame.  ``throttle`` slows down networks whose logins at
    other providers fail; those that check passwords have their own.
    """

    name: str
    public_url: str
    logins: LoginStore | None = None
    providers: tuple[Provider, ...] = ()
    embed: tuple[str, ...] = ()
    throttle: LoginThrottle | None = None

    def security(self) -> dict[str, str]:
        """Return the fields of every answer that restrict a page in a browser."""
        authority = self.public_url.partition("://")[2]
        ancestors = " ".join(self.embed) or "'none'"
        policy = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
            f"connect-src 'self' wss://{authority}; base-uri 'none'; form-action 'self'; "
            f"frame-ancestors {ancestors}"
        )
        found = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            # With no-referrer, browsers would send the login form with "Origin: null".
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
        }
        if not self.embed:
            found["X-Frame-Options"] = "DENY"
        return found
