"""An authenticator that checks JSON Web Tokens, in the Authorization field or in a cookie."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from zope.interface import implementer

from esxiproxy.authenticators.jwt_keys import KeySetFile, KeySetUrl, KeySource
from esxiproxy.authenticators.keys import REAUTHENTICATE, REAUTHENTICATE_GRACE
from esxiproxy.core.config.errors import shown
from esxiproxy.core.config.file_path import file_path
from esxiproxy.core.config.key import CERTIFICATES
from esxiproxy.core.config.url import service_url
from esxiproxy.core.errors import AccessDenied
from esxiproxy.core.http.head import RequestHead
from esxiproxy.core.http.request import Request
from esxiproxy.core.jwks import ALGORITHMS, SYMMETRIC, BadKeys, Jwk, KeySet, missing_package, read_jwks
from esxiproxy.core.login_token import (
    InvalidToken,
    TokenHeader,
    TokenLogin,
    TokenRules,
    has_token_shape,
    token_header,
    verified_claims,
)
from esxiproxy.core.routing import Challenge, Identity, Principal, Verify
from esxiproxy.core.session.connection_limits import ANONYMOUS_NAME
from esxiproxy.interfaces import IAuthenticator, IReauthenticator
from esxiproxy.plugins import (
    AUTHENTICATOR,
    DURATION,
    BadValue,
    Context,
    Key,
    Names,
    SectionValues,
    Type,
    plain,
)

BEARER = b""
"""The place of a token in the Authorization field.  Every other place is the name of a cookie."""
_COOKIE_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_INVALID = (b"WWW-Authenticate", b'Bearer error="invalid_token"')
_CHALLENGE = Challenge(((b"WWW-Authenticate", b"Bearer"),))


@dataclass(frozen=True, slots=True)
class RememberedToken:
    """The facts of a token that a running console depends on: its expiry and its key.

    ``key`` is None when the token was not valid any more as the console opened.
    """

    principal: Principal
    expires: float
    key: Jwk | None = field(repr=False)


@implementer(IAuthenticator, IReauthenticator)
class JwtAuthenticator:
    """An authenticator that identifies clients by signed tokens with an expiry, an issuer and an audience.

    ``places`` are the places of a token in their order.  The first place that has a token decides.
    """

    def __init__(
        self,
        source: KeySource,
        rules: TokenRules,
        algorithms: tuple[str, ...],
        places: tuple[bytes, ...] = (BEARER,),
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self.source = source
        self._rules = rules
        self._algorithms = algorithms
        self._places = places
        self._time_of_day = time_of_day
        self._cookies = self.consumed_cookies = frozenset(places) - {BEARER}
        self.ambient = bool(self._cookies)

    async def ready(self) -> None:
        """Read the keys, if they are in a file."""
        await self.source.ready()

    async def authenticate(self, request: Request) -> Principal | None:
        found = self._token(request.head)
        if found is None:
            return None
        token, _place = found
        try:
            header = self._header(token)
            keys = await self.source.current()
            key = _key(header, keys)
            if key is None:
                key = _key(header, await self.source.after_unknown())
            login = self._login(token, key)
        except InvalidToken as error:
            raise _denied(str(error)) from None
        return Principal(
            login.name,
            consumed=frozenset({b"authorization"} if self._has_bearer(request.head) else ()),
            consumed_cookies=self._cookies,
            groups=login.groups,
            expires=login.expires,
        )

    def _has_bearer(self, head: RequestHead) -> bool:
        """Return whether the request has a bearer token for this authenticator, which is not forwarded."""
        return BEARER in self._places and _bearer(head) is not None

    def challenge(self, request: Request) -> Challenge:
        """Return the challenge for a client without a token (RFC 6750 3)."""
        return _CHALLENGE

    def remember(self, request: Request, principal: Principal) -> RememberedToken:
        """Return the expiry and the key of the token of a request that was authenticated."""
        expires = 0.0 if principal.expires is None else principal.expires
        try:
            found, keys = self._token(request.head), self.source.loaded
            if found is None or keys is None:
                return RememberedToken(principal, expires, None)
            key = _key(self._header(found[0]), keys)
            login = self._login(found[0], key)
        except (AccessDenied, InvalidToken):
            return RememberedToken(principal, expires, None)
        return RememberedToken(principal, login.expires, key)

    async def reauthenticate(self, remembered: RememberedToken) -> Principal | None:
        """Return the principal, or None when the token has expired or its key is not used any more."""
        if remembered.key is None or remembered.expires <= self._time_of_day():
            return None
        keys = await self.source.current()
        return remembered.principal if keys.has(remembered.key) else None

    def _token(self, head: RequestHead) -> tuple[bytes, bytes] | None:
        """Return the token of a request and its place, or None.  Raises AccessDenied if it has several."""
        for place in self._places:
            token = _bearer(head) if place == BEARER else _cookie(head, place)
            if token is not None:
                return token, place
        return None

    def _header(self, token: bytes) -> TokenHeader:
        header = token_header(token)
        if header.algorithm not in self._algorithms:
            raise InvalidToken("the token's algorithm is not allowed")
        return header

    def _login(self, token: bytes, key: Jwk | None) -> TokenLogin:
        if key is None:
            raise InvalidToken("the token's key is not known")
        login = self._rules.login(verified_claims(token, key), self._time_of_day())
        if login.name == ANONYMOUS_NAME:
            raise InvalidToken("the name in the token is that of clients without a login")
        return login


def _key(header: TokenHeader, keys: KeySet) -> Jwk | None:
    """Return the key of a token, or None if its id is unknown.  Raises InvalidToken."""
    key = keys.find(header.kid, header.algorithm)
    if key is None and header.kid is None:
        raise InvalidToken("the token names no key, and its algorithm has not exactly one")
    return key


def _bearer(head: RequestHead) -> bytes | None:
    values = head.values(b"authorization")
    words = [value.split(None, 1) for value in values]
    if not any(each and each[0].lower() == b"bearer" for each in words):
        return None
    if len(values) > 1:
        raise _denied("the request has several Authorization fields")
    token = words[0][1] if len(words[0]) == 2 else b""
    return token if has_token_shape(token) else None


def _cookie(head: RequestHead, name: bytes) -> bytes | None:
    parts = (part.strip().partition(b"=") for value in head.values(b"cookie") for part in value.split(b";"))
    found = {value.strip() for key, _equals, value in parts if key == name} - {b""}
    if len(found) > 1:
        raise _denied("the request has several cookies of the name for tokens")
    return found.pop() if found else None


def _denied(reason: str) -> AccessDenied:
    error = AccessDenied(reason, status=401)
    error.fields = (_INVALID,)
    return error


class JwtType:
    """The type ``jwt``."""

    name = "jwt"
    help = "Checks JSON Web Tokens, in the Authorization field or in a cookie."
    keys = (
        Key(
            "keys",
            AUTHENTICATOR,
            Type("file or https URL", lambda text, folder: _location(text, folder)),
            None,
            "The JWKS document with the keys that sign tokens. A file is read again when it changes. A URL "
            "is fetched at the first token, again after 10 minutes, and within 30s for an unknown key.",
            required=True,
        ),
        Key(
            "ca",
            AUTHENTICATOR,
            CERTIFICATES,
            None,
            "PEM file with the authorities of the URL in `keys`, instead of those of the machine.",
        ),
        Key(
            "issuer",
            AUTHENTICATOR,
            plain("text", lambda text: _text(text)),
            None,
            "The issuer (`iss`) of all tokens, exactly as it stands in them.",
            required=True,
        ),
        Key(
            "audience",
            AUTHENTICATOR,
            plain("text", lambda text: _text(text)),
            None,
            "The audience (`aud`) that tokens must have, among others or alone.",
            required=True,
        ),
        Key(
            "from",
            AUTHENTICATOR,
            plain("`bearer` or `cookie:NAME`, separated by commas", lambda text: _places(text)),
            "bearer",
            "Where a token stands: in the field `Authorization: Bearer`, or in a cookie. The first place "
            "that has a token decides. A cookie makes `origins = same` the default of the listener.",
        ),
        Key(
            "user",
            AUTHENTICATOR,
            plain("name of a claim", lambda text: _text(text)),
            "sub",
            "The claim with the name of the user.",
        ),
        Key(
            "groups",
            AUTHENTICATOR,
            plain("name of a claim", lambda text: _text(text)),
            "groups",
            "The claim with the groups of the user: a list, or a text with spaces or commas between them.",
        ),
        Key(
            "algorithms",
            AUTHENTICATOR,
            plain("algorithms, separated by commas", lambda text: _algorithms(text)),
            "RS256, PS256, ES256, EdDSA",
            f"The allowed algorithms, of {', '.join(ALGORITHMS)}. Those with HS need a file of keys.",
        ),
        Key(
            "leeway",
            AUTHENTICATOR,
            DURATION,
            "5s",
            "The difference that the clocks of proxy and issuer may have.",
        ),
        REAUTHENTICATE,
        REAUTHENTICATE_GRACE,
    )

    def conflicts(self, settings: SectionValues, names: Names) -> Iterator[tuple[str, str]]:
        """Yield a missing PyJWT, keys that cannot be used, and values that do not fit a file or a URL."""
        location, algorithms = settings["keys"], settings["algorithms"]
        if not isinstance(location, Path):
            secret = next((each for each in algorithms if each in SYMMETRIC), None)
            if secret is not None:
                yield "algorithms", f"{secret} needs a file of keys: a secret does not belong to a URL"
        elif settings["ca"] is not None:
            yield "ca", "not used: keys is a file. Remove ca"
        if (text := missing_package(self.name)) is not None:
            yield "type", text
            return
        if isinstance(location, Path):
            try:
                read_jwks(location, algorithms)
            except BadKeys as error:
                yield "keys", str(error)

    def create(self, settings: SectionValues, context: Context) -> JwtAuthenticator:
        """Return the authenticator."""
        location, algorithms = settings["keys"], settings["algorithms"]
        source: KeySource
        if isinstance(location, Path):
            source = KeySetFile(location, algorithms, context)
        else:
            ca = settings["ca"]
            identity = None if ca is None else Identity(Verify.CA, ca=ca)
            before = context.previous.source if isinstance(context.previous, JwtAuthenticator) else None
            source = KeySetUrl(location, identity, algorithms, context, before)
        rules = TokenRules(
            settings["issuer"],
            settings["audience"],
            settings["leeway"],
            settings["user"],
            settings["groups"],
        )
        return JwtAuthenticator(source, rules, algorithms, settings["from"])


def _location(text: str, folder: Path) -> Path | str:
    """Return the path of a file, or a URL.  Raises BadValue."""
    if "://" not in text:
        return file_path(text, folder)
    return service_url(text, ("https",), "https://HOST/PATH, or the path of a file")


def _text(text: str) -> str:
    if not text:
        raise BadValue("is empty")
    return text


def _places(text: str) -> tuple[bytes, ...]:
    """Return the places of tokens.  Raises BadValue."""
    places = []
    for word in (part.strip() for part in text.split(",")):
        kind, _colon, name = word.partition(":")
        if word != "bearer" and (kind != "cookie" or not _COOKIE_NAME.fullmatch(name)):
            raise BadValue(f"{shown(word)} is no place of a token: write bearer or cookie:NAME")
        places.append(BEARER if word == "bearer" else name.encode())
    if len(set(places)) < len(places):
        raise BadValue("a place is given twice")
    return tuple(places)


def _algorithms(text: str) -> tuple[str, ...]:
    """Return the names of algorithms.  Raises BadValue."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in found:
        if name.lower() == "none":
            raise BadValue("none is never allowed: a token has to be signed")
        if name not in ALGORITHMS:
            raise BadValue(f"{shown(name)} is not supported: write some of {', '.join(ALGORITHMS)}")
    return found


TYPE = JwtType()
