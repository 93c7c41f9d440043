"""An authenticator that asks an HTTP service about each request, as auth_request and forwardAuth do."""

from __future__ import annotations

import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from zope.interface import implementer

from esxiproxy.authenticators.forward_keys import KEYS
from esxiproxy.core.errors import AccessDenied, ServiceUnavailable
from esxiproxy.core.http.forward_auth import (
    ServiceLogin,
    service_fields,
    service_login,
    spellings,
    wants_page,
)
from esxiproxy.core.http.head import Fields, by_name
from esxiproxy.core.http.request import Request
from esxiproxy.core.routing import Challenge, Identity, Principal, Verify
from esxiproxy.core.sealing import seal, unseal
from esxiproxy.core.session.connection_limits import ANONYMOUS_NAME
from esxiproxy.interfaces import Answer, IAuthenticator, IReauthenticator
from esxiproxy.plugins import Context, Names, SectionValues

MAX_BODY = 256 * 1024
"""Maximum number of bytes of the service's answer, whose body is not used."""
MAX_CHALLENGES = 1024
"""Maximum number of answers without a login that wait for ``challenge``."""
_REDIRECTS = (302, 303, 307)
_LABEL = "esxiproxy forward"
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_PASSED_BACK = ((b"set-cookie", b"Set-Cookie"), (b"www-authenticate", b"WWW-Authenticate"))


@dataclass(frozen=True, slots=True)
class Service:
    """The service that is asked, and the fields in which it and the client talk.

    ``users`` and ``groups`` are names of fields of its answer.  ``passed`` are names of the client's fields
    that it gets.  ``login`` is the URL of its login page.
    """

    url: str = field(repr=False)
    users: tuple[str, ...]
    groups: tuple[str, ...]
    passed: tuple[bytes, ...] = (b"Cookie", b"Authorization")
    identity: Identity | None = None
    socket: Path | None = None
    timeout: float = 5.0
    login: str | None = None

    @property
    def where(self) -> str:
        """The socket, or the scheme, the host and the port: the rest of the URL may hold a secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}" if self.socket is None else str(self.socket)


@dataclass(frozen=True, slots=True)
class RememberedRequest:
    """The user of a console, and the sealed fields with which the service is asked again."""

    name: str
    sealed: str = field(repr=False)


@implementer(IAuthenticator, IReauthenticator)
class ForwardAuthenticator:
    """An authenticator that asks a service about each request.

    ``identity_fields`` are the names (lower case) in which services name users, in all spellings.  A client
    that sends such a field could name itself to the upstream, so they are to be removed from every request of
    a listener that uses this authenticator.
    """

    ambient = True

    def __init__(
        self, service: Service, context: Context, consumed_cookies: frozenset[bytes] = frozenset()
    ) -> None:
        self.identity_fields = spellings((*service.users, *service.groups))
        self._service = service
        self._context = context
        credentials = {b"authorization"} & {name.lower() for name in service.passed}
        self._consumed = self.identity_fields | credentials
        self.consumed_cookies = consumed_cookies
        self._secret = secrets.token_hex(32)
        self._challenges: OrderedDict[str, Fields] = OrderedDict()

    async def authenticate(self, request: Request) -> Principal | None:
        answer = await self._ask(service_fields(request, self._service.passed))
        passed_back = self._passed_back(answer)
        if not _is_allowed(answer):
            if passed_back:
                self._challenges[request.session] = passed_back
            while len(self._challenges) > MAX_CHALLENGES:
                self._challenges.popitem(last=False)
            return None
        login = self._login(answer)
        return Principal(
            login.name,
            consumed=self._consumed,
            groups=login.groups,
            consumed_cookies=self.consumed_cookies,
            response_fields=tuple(each for each in passed_back if each[0] == b"Set-Cookie"),
        )

    def challenge(self, request: Request) -> Challenge | None:
        """Return the challenge and the cookies of the service's answer, and the login page for a page."""
        fields = self._challenges.pop(request.session, ())
        if self._service.login is not None and wants_page(request.head):
            fields += ((b"Location", self._service.login.encode("ascii")),)
        return Challenge(fields) if fields else None

    def remember(self, request: Request, principal: Principal) -> RememberedRequest:
        """Return the fields that the service got, sealed with a key of this instance that is never stored."""
        fields = service_fields(request, self._service.passed)
        text = json.dumps([[part.decode("latin-1") for part in each] for each in fields])
        return RememberedRequest(principal.name, seal(text, self._secret, _LABEL))

    async def reauthenticate(self, remembered: RememberedRequest) -> Principal | None:
        """Ask the service again, and return the principal; None if it does not allow or know this user.

        The client cannot get a Set-Cookie of this answer, since its console is open: the service is asked
        with the cookies of the opening handshake each time.  A service that replaces a cookie and refuses the
        old one therefore ends the console.
        """
        opened = json.loads(unseal(remembered.sealed, self._secret, _LABEL))
        try:
            answer = await self._ask(
                tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in opened)
            )
            if not _is_allowed(answer):
                return None
            login = self._login(answer)
        except AccessDenied:
            return None
        return Principal(login.name, groups=login.groups) if login.name == remembered.name else None

    async def _ask(self, fields: Fields) -> Answer:
        """Return the service's answer if it allows the request or knows no login.

        Raises AccessDenied for status 403, and ServiceUnavailable for any other status.
        """
        service = self._service
        answer = await self._context.http.request(
            "GET",
            service.url,
            fields=fields,
            timeout=service.timeout,
            max_body=MAX_BODY,
            identity=service.identity,
            socket=service.socket,
        )
        if answer.status == 403:
            raise AccessDenied("the login service does not allow this request")
        if not _is_allowed(answer) and not _is_without_login(answer):
            raise ServiceUnavailable(
                f"{service.where} answered with status {answer.status}, not 2xx, 401 or 403"
            )
        return answer

    def _login(self, answer: Answer) -> ServiceLogin:
        """Return the user in an answer.  Raises AccessDenied."""
        login = service_login(answer.fields, self._service.users, self._service.groups)
        if login.name == ANONYMOUS_NAME:
            raise AccessDenied(
                f"the login service named {login.name}, which is no user: it has to answer 401"
            )
        return login

    def _passed_back(self, answer: Answer) -> Fields:
        """Return the fields of an answer that the client gets.  Raises ServiceUnavailable."""
        named = by_name(answer.fields)
        found = tuple((name, value) for key, name in _PASSED_BACK for value in named.get(key, ()))
        for name, value in found:
            if _CONTROL.search(value):
                text = f"{self._service.where} sent a {name.decode()} with control characters"
                raise ServiceUnavailable(text)
        return found


def _is_allowed(answer: Answer) -> bool:
    return 200 <= answer.status < 300


def _is_without_login(answer: Answer) -> bool:
    """Return whether the client has no login: status 401, or a redirect to a login page."""
    return answer.status == 401 or (
        answer.status in _REDIRECTS and any(name.lower() == b"location" for name, _value in answer.fields)
    )


class ForwardType:
    """The type ``forward``."""

    name = "forward"
    help = "Asks an HTTP service about each request, as nginx's auth_request and Traefik's forwardAuth do."
    keys = KEYS

    def conflicts(self, settings: SectionValues, names: Names) -> Iterator[tuple[str, str]]:
        """Yield authorities without TLS, and identity headers that a client could send to the service."""
        if settings["ca"] is not None and not settings["url"].startswith("https:"):
            yield "ca", "not used: url begins with http://. Remove ca, or write https://"
        identity = spellings((*settings["user"], *settings["groups"]))
        for name in settings["headers"]:
            if name.lower() in identity:
                yield "headers", f"{name.decode()} is a header of user or groups: a client could name itself"

    def create(self, settings: SectionValues, context: Context) -> ForwardAuthenticator:
        """Return the authenticator."""
        ca = settings["ca"]
        service = Service(
            settings["url"],
            settings["user"],
            settings["groups"],
            settings["headers"],
            None if ca is None else Identity(Verify.CA, ca=ca),
            settings["socket"],
            settings["timeout"],
            settings["login"],
        )
        return ForwardAuthenticator(service, context, settings["consume_cookies"] or frozenset())


TYPE = ForwardType()
