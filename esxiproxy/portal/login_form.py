"""The login form: a name and a password for one of the providers, and the logout.

The form has a random text that its cookie has as well, so that a page of another site cannot log a user in
under another name.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from string import Template
from urllib.parse import quote

from twisted.logger import Logger

from esxiproxy.authenticators.loggable import loggable
from esxiproxy.authenticators.login_store import COOKIE, new_token
from esxiproxy.core.errors import AccessDenied
from esxiproxy.core.session.connection_limits import client_network
from esxiproxy.portal.arrival import Fields, PortalAnswer, PortalArrival, PortalError
from esxiproxy.portal.settings import Provider

FORM_COOKIE = b"__Host-esxiproxy-form"
"""The name of the cookie that a form has to agree with."""
TOO_MANY_LOGINS = "This user has logged in too often. Please wait a moment and try again."
_ATTRIBUTES = b"; Path=/; Secure; HttpOnly; SameSite="
_NEXT = re.compile(r"/(?![/\\])[!-\[\]-~]{0,1023}")
_MAX_NAME, _MAX_PASSWORD = 256, 1024
_HTML = "text/html; charset=utf-8"
_NO_PAGES = ("/login", "/api/", "/assets/")


def next_path(text: str) -> str:
    """Return the path to go to after a login: this text if it is a page of the portal, else ``/``."""
    if not _NEXT.fullmatch(text) or text.startswith(_NO_PAGES):
        return "/"
    return text


def to_login(path: str) -> str:
    """Return the path of the form that leads to a page of the portal."""
    wanted = next_path(path)
    return "/login" if wanted == "/" else f"/login?next={quote(wanted, safe='/')}"


class LoginForm:
    """The form and what becomes of it.

    ``template`` is the HTML of the page, whose names are replaced by escaped texts.
    """

    _log = Logger()

    def __init__(self, template: str) -> None:
        self._template = Template(template)

    def show(self, arrival: PortalArrival) -> PortalAnswer:
        """Return the form, or a redirect for a client that is known already."""
        wanted = next_path(arrival.parameters().get("next", "/"))
        if arrival.visitor.principal is not None:
            return PortalAnswer.redirect(wanted)
        return self._page(arrival, wanted)

    def show_failure(self, arrival: PortalArrival, error: PortalError) -> PortalAnswer:
        """Return the form with the reason why a login at a provider has failed."""
        return self._page(arrival, "/", str(error), error.status, error.fields)

    async def submitted(self, arrival: PortalArrival) -> PortalAnswer:
        """Check a name and a password, and begin a login with an id of its own.

        Raises PortalError or a SessionError.
        """
        arrival.check_own_page()
        form = arrival.form()
        wanted = next_path(form.get("next", "/"))
        logins = arrival.listener.logins
        provider = self._provider(arrival, form)
        if logins is None or provider is None:
            raise PortalError(404, "this listener has no login form: add an authenticator session")
        token = arrival.cookie(FORM_COOKIE)
        if not token or not hmac.compare_digest(token.encode(), form.get("token", "").encode()):
            return self._page(arrival, wanted, "The form was too old. Please try again.", 403)
        name, password = form.get("name", ""), form.get("password", "")
        if not name or len(name) > _MAX_NAME or len(password) > _MAX_PASSWORD or not name.isprintable():
            return self._page(arrival, wanted, "The user name or the password is wrong.", 403)
        text = "Too many logins have failed. Please wait a moment and try again."
        try:
            principal = await provider.check.check_password(
                name, password, client_network(arrival.visitor.client)
            )
            if principal is None:
                return self._page(arrival, wanted, "The user name or the password is wrong.", 403)
            text = TOO_MANY_LOGINS
            cookie, _ = await logins.create(replace(principal, authenticator=provider.section))
        except AccessDenied as error:
            if error.status_code != 429:
                raise
            return self._page(arrival, wanted, text, 429, error.fields)
        if arrival.visitor.login:
            await logins.end(arrival.visitor.login)
        self._report(provider, name, arrival)
        fields = (set_cookie(COOKIE, cookie), delete_cookie(FORM_COOKIE))
        return PortalAnswer.redirect(wanted, fields)

    async def ended(self, arrival: PortalArrival) -> PortalAnswer:
        """End the login of a client, and close its consoles.  Raises PortalError or StateUnavailable."""
        if not arrival.visitor.login or arrival.listener.logins is None:
            raise PortalError(409, "this client was not logged in on this page, so it cannot log out here")
        await arrival.listener.logins.end(arrival.visitor.login)
        return PortalAnswer.of({"login": "/login"}, fields=(delete_cookie(COOKIE),))

    def _provider(self, arrival: PortalArrival, form: Mapping[str, str]) -> Provider | None:
        providers = _with_password(arrival)
        if len(providers) == 1:
            return providers[0]
        return next((each for each in providers if each.name == form.get("provider")), None)

    def _page(
        self,
        arrival: PortalArrival,
        wanted: str,
        problem: str = "",
        status: int = 200,
        fields: Fields = (),
    ) -> PortalAnswer:
        """Return the login form, with the problem of the last attempt."""
        if not arrival.listener.providers:
            text = "This address has no login form. Ask the operator of the proxy how to log in."
            return PortalAnswer(401, "text/plain; charset=utf-8", f"{text}\n".encode())
        token = arrival.cookie(FORM_COOKIE) or ""
        if len(token) != len(new_token()):
            token = new_token()
        asked = _with_password(arrival)
        several = len(asked) > 1
        options = "".join(
            f'<option value="{escape(each.name)}">{escape(each.name)}</option>' for each in asked
        )
        links = "".join(
            f'<a class="provider" href="/login/with/{escape(each.name)}?next={quote(wanted, safe="/")}">'
            f"Log in with {escape(each.name)}</a>"
            for each in arrival.listener.providers
            if not each.is_password
        )
        body = self._template.substitute(
            next=escape(wanted),
            token=escape(token),
            problem=escape(problem),
            providers=options,
            links=links,
            form="" if asked else " hidden",
            hidden="" if several else " hidden",
            disabled="" if several else " disabled",
        )
        fields = (*fields, set_cookie(FORM_COOKIE, token, b"Strict"))
        return PortalAnswer(status, _HTML, body.encode(), fields)

    def _report(self, provider: Provider, name: str, arrival: PortalArrival) -> None:
        self._log.info(
            "{provider}/{name} has logged in on the portal from {client}",
            provider=provider.name,
            name=loggable(name),
            client=arrival.visitor.client,
        )


def _with_password(arrival: PortalArrival) -> tuple[Provider, ...]:
    return tuple(each for each in arrival.listener.providers if each.is_password)


def set_cookie(name: bytes, value: str, same_site: bytes = b"Lax") -> tuple[bytes, bytes]:
    """Return the field that sets a cookie for this browser session."""
    return b"Set-Cookie", name + b"=" + value.encode("latin-1") + _ATTRIBUTES + same_site


def delete_cookie(name: bytes) -> tuple[bytes, bytes]:
    """Return the field that deletes a cookie."""
    return b"Set-Cookie", name + b"=" + _ATTRIBUTES + b"Lax; Max-Age=0"
