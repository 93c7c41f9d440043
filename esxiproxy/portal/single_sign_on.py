"""Logins at a provider of OpenID Connect: the way there, the way back, and logouts by the provider."""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

from twisted.logger import Logger

from esxiproxy.authenticators.loggable import loggable
from esxiproxy.authenticators.login_store import COOKIE, new_token
from esxiproxy.core.errors import AccessDenied
from esxiproxy.core.login_token import InvalidToken
from esxiproxy.core.oidc import LoginAttempt
from esxiproxy.core.routing import Principal
from esxiproxy.core.session.connection_limits import client_network
from esxiproxy.portal.arrival import PortalAnswer, PortalArrival, PortalError
from esxiproxy.portal.login_form import TOO_MANY_LOGINS, delete_cookie, next_path, set_cookie
from esxiproxy.portal.settings import Provider

ATTEMPT_COOKIE = b"__Host-esxiproxy-attempt"
"""The name of the cookie of a login that has begun."""
CALLBACK = "/login/callback"
"""The path to which the provider sends the browser back."""
_BEGIN = re.compile(r"/login/with/([A-Za-z0-9][A-Za-z0-9._-]{0,63})")
_LOGOUT = re.compile(r"/login/logout/([A-Za-z0-9][A-Za-z0-9._-]{0,63})")
_ATTEMPT = re.compile(r"([A-Za-z0-9_-]{43})\.([A-Za-z0-9][A-Za-z0-9._-]{0,63})\.([A-Za-z0-9_-]{0,1400})")
_FAILED = "The login failed. Please try again."


class SingleSignOn:
    """The logins of the portal at providers of OpenID Connect."""

    _log = Logger()

    def handles(self, path: str) -> bool:
        """Return whether a path is one of these logins."""
        return path == CALLBACK or bool(_BEGIN.fullmatch(path) or _LOGOUT.fullmatch(path))

    async def answer(self, arrival: PortalArrival) -> PortalAnswer:
        """Return the answer to a request.  Raises PortalError or a SessionError."""
        if (found := _LOGOUT.fullmatch(arrival.path)) is not None:
            return await self._logged_out(arrival, found[1])
        if arrival.method not in (b"GET", b"HEAD"):
            raise PortalError(405, "this path takes GET", ((b"Allow", b"GET, HEAD"),))
        if (found := _BEGIN.fullmatch(arrival.path)) is not None:
            return await self._begin(arrival, found[1])
        return await self._finish(arrival)

    async def _begin(self, arrival: PortalArrival, name: str) -> PortalAnswer:
        provider = _provider(arrival, name)
        secret = new_token()
        wanted = urlsafe_b64encode(next_path(arrival.parameters().get("next", "/")).encode()).rstrip(b"=")
        url = await provider.check.authorization_url(LoginAttempt(secret), _redirect(arrival))
        value = f"{secret}.{name}.{wanted.decode('ascii')}"
        return PortalAnswer.redirect(url, (set_cookie(ATTEMPT_COOKIE, value),))

    async def _finish(self, arrival: PortalArrival) -> PortalAnswer:
        """Complete a login with the answer of the provider, and store it.  Raises PortalError."""
        parameters = arrival.parameters()
        found = _ATTEMPT.fullmatch(arrival.cookie(ATTEMPT_COOKIE) or "")
        gone = (delete_cookie(ATTEMPT_COOKIE),)
        if found is None:
            raise PortalError(403, "This browser has begun no login, or a long time ago. Please try again.")
        attempt, provider = LoginAttempt(found[1]), _provider(arrival, found[2])
        if not hmac.compare_digest(attempt.state.encode(), parameters.get("state", "").encode()):
            raise PortalError(403, "This is the end of another login. Please try again.", gone)
        if parameters.get("iss", provider.check.issuer) != provider.check.issuer:  # RFC 9207
            raise PortalError(403, _FAILED, gone)
        if "error" in parameters:
            self._refused(provider, arrival, f"the provider says {parameters['error']}")
            raise PortalError(403, "The login was refused by the provider.", gone)
        throttle, network = arrival.listener.throttle, client_network(arrival.visitor.client) or "unix"
        try:
            if throttle is not None:
                await throttle.check(network)
            identity = await provider.check.identity(parameters.get("code", ""), attempt, _redirect(arrival))
        except AccessDenied as error:
            if error.status_code == 429:
                text = "Too many logins have failed. Please wait a moment and try again."
                raise PortalError(429, text, (*error.fields, *gone)) from None
            self._refused(provider, arrival, str(error))
            if throttle is not None:
                await throttle.failed(network)
            raise PortalError(403, _FAILED, gone) from None
        logins = arrival.listener.logins
        assert logins is not None, "there are providers"
        principal = Principal(
            identity.login.name, groups=identity.login.groups, authenticator=provider.section
        )
        try:
            cookie, _ = await logins.create(principal, identity.subject, identity.session)
        except AccessDenied as error:
            raise PortalError(error.status_code, TOO_MANY_LOGINS, (*error.fields, *gone)) from None
        if arrival.visitor.login:
            await logins.end(arrival.visitor.login)
        self._log.info(
            "{provider}/{name} has logged in on the portal from {client}",
            provider=provider.name,
            name=loggable(principal.name),
            client=arrival.visitor.client,
        )
        return PortalAnswer.redirect(_decoded(found[3]), (set_cookie(COOKIE, cookie), *gone))

    async def _logged_out(self, arrival: PortalArrival, name: str) -> PortalAnswer:
        """End the logins that a logout token of the provider names (Back-Channel Logout 1.0, 2.5)."""
        if arrival.method != b"POST":
            raise PortalError(405, "this path takes POST", ((b"Allow", b"POST"),))
        provider = _provider(arrival, name)
        logins = arrival.listener.logins
        assert logins is not None, "there are providers"
        try:
            token = arrival.form().get("logout_token", "").encode("ascii", "replace")
            subject, session = await provider.check.ended(token)
        except InvalidToken as error:
            self._refused(provider, arrival, str(error))
            raise PortalError(400, "the logout token is not valid") from None
        count = await logins.end_those_of(provider.section, subject, session)
        self._log.info(
            "{provider} has ended {count} logins on the portal", provider=provider.name, count=count
        )
        return PortalAnswer(200, "text/plain; charset=utf-8", b"")

    def _refused(self, provider: Provider, arrival: PortalArrival, reason: str) -> None:
        self._log.warn(
            "a login at {provider} from {client} was refused: {reason}",
            provider=provider.name,
            client=arrival.visitor.client,
            reason=loggable(reason),
        )


def _provider(arrival: PortalArrival, name: str) -> Provider:
    for provider in arrival.listener.providers:
        if provider.name == name and not provider.is_password:
            return provider
    raise PortalError(404, "this listener has no such provider")


def _redirect(arrival: PortalArrival) -> str:
    return f"{arrival.listener.public_url}{CALLBACK}"


def _decoded(text: str) -> str:
    try:
        return next_path(urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii"))
    except ValueError:
        return "/"
