"""A provider of OpenID Connect, to which the login form of the portal sends users."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from twisted.internet.defer import DeferredLock
from zope.interface import implementer

from esxiproxy.authenticators.jwt_keys import KeySetUrl
from esxiproxy.core.bounded_file import read_file
from esxiproxy.core.config.errors import shown
from esxiproxy.core.config.key import CERTIFICATES
from esxiproxy.core.errors import AccessDenied, ServiceUnavailable, SessionError
from esxiproxy.core.http.request import Request
from esxiproxy.core.jwks import Jwk, missing_package
from esxiproxy.core.login_token import InvalidToken, TokenRules, token_header, verified_claims
from esxiproxy.core.oidc import (
    DISCOVERY,
    MAX_DOCUMENT,
    InvalidProvider,
    LoginAttempt,
    OidcIdentity,
    ProviderMetadata,
    id_token_in,
    identity_of,
    logout_of,
)
from esxiproxy.core.routing import Identity, Principal, Verify
from esxiproxy.core.session.connection_limits import ANONYMOUS_NAME
from esxiproxy.interfaces import IAuthenticator
from esxiproxy.plugins import (
    AUTHENTICATOR,
    BadValue,
    Context,
    Key,
    Names,
    SectionValues,
    path,
    plain,
)

DISCOVERY_AGE = 3600.0
"""Seconds after which the endpoints of the provider are read again."""
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
"""The algorithms of ID tokens and logout tokens."""
RETRY_INTERVAL = 5.0
"""Seconds after which endpoints that could not be read are asked for again."""
_TIMEOUT = 8.0
_MAX_SECRET = 4096
_MAX_CODE = 4096
_ID_TOKENS = frozenset({"jwt"})
_LOGOUT_TOKENS = frozenset({"logout+jwt", "jwt"})
_JSON = (b"Accept", b"application/json")
_FORM = (b"Content-Type", b"application/x-www-form-urlencoded")


@implementer(IAuthenticator)
class OidcProvider:
    """A client of one provider.  It knows no requests of a listener itself: the portal makes a login."""

    ambient = False

    def __init__(
        self, settings: SectionValues, context: Context, time_of_day: Callable[[], float] = time.time
    ) -> None:
        self.issuer: str = settings["issuer"]
        self.client: str = settings["client_id"]
        self._secret_file: Path = settings["client_secret_file"]
        self._scopes: tuple[str, ...] = settings["scopes"]
        self._rules = TokenRules(
            self.issuer, self.client, user=settings["user_claim"], groups=settings["groups_claim"]
        )
        ca: Path | None = settings["ca"]
        self._identity = None if ca is None else Identity(Verify.CA, ca=ca)
        self._context = context
        self._time_of_day = time_of_day
        self._metadata: ProviderMetadata | None = None
        self._due_at = float("-inf")
        self._reason = ""
        self._keys: KeySetUrl | None = None
        self._lock = DeferredLock()

    async def authenticate(self, request: Request) -> Principal | None:
        return None

    async def authorization_url(self, attempt: LoginAttempt, redirect: str) -> str:
        """Return the URL at which a user logs in.  Raises ServiceUnavailable."""
        return attempt.authorization_url(await self._endpoints(), self.client, redirect, self._scopes)

    async def identity(self, code: str, attempt: LoginAttempt, redirect: str) -> OidcIdentity:
        """Return the user for the code that the browser has brought back.

        Raises AccessDenied, whose text is for the log, or ServiceUnavailable.
        """
        if not 0 < len(code) <= _MAX_CODE:
            raise AccessDenied("the provider has sent no code")
        endpoints = await self._endpoints()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "code_verifier": attempt.verifier,
        }
        fields = [_JSON, _FORM]
        secret = self._secret()
        if endpoints.basic:  # RFC 6749 2.3.1
            pair = f"{quote(self.client, safe='')}:{quote(secret, safe='')}".encode("ascii")
            fields.append((b"Authorization", b"Basic " + b64encode(pair)))
        else:
            form |= {"client_id": self.client, "client_secret": secret}
        answer = await self._context.http.request(
            "POST",
            endpoints.token,
            fields=fields,
            body=urlencode(form).encode("ascii"),
            timeout=_TIMEOUT,
            max_body=MAX_DOCUMENT,
            identity=self._identity,
        )
        if answer.status in (400, 401, 403):
            raise AccessDenied(f"the token endpoint refused the code with status {answer.status}")
        if answer.status != 200:
            raise ServiceUnavailable(f"{self._where(endpoints.token)} answered with status {answer.status}")
        try:
            token = id_token_in(answer.body)
            claims = verified_claims(token, await self._key(token, _ID_TOKENS), _ID_TOKENS)
            found = identity_of(claims, self._rules, attempt.nonce, self._time_of_day())
        except (InvalidToken, InvalidProvider) as error:
            raise AccessDenied(str(error)) from None
        if found.login.name == ANONYMOUS_NAME:
            raise AccessDenied("the name in the token is that of clients without a login")
        return found

    async def ended(self, token: bytes) -> tuple[str, str]:
        """Return the subject and the session of a logout token.

        Raises InvalidToken or ServiceUnavailable.
        """
        await self._endpoints()
        claims = verified_claims(token, await self._key(token, _LOGOUT_TOKENS), _LOGOUT_TOKENS)
        return logout_of(claims, self.issuer, self.client, self._time_of_day())

    async def _key(self, token: bytes, types: frozenset[str]) -> Jwk:
        header = token_header(token, types)
        if header.algorithm not in ALGORITHMS:
            raise InvalidToken("the token's algorithm is not allowed")
        assert self._keys is not None, "the endpoints are known"
        for keys in (self._keys.current, self._keys.after_unknown):
            if (key := (await keys()).find(header.kid, header.algorithm)) is not None:
                return key
        raise InvalidToken("the token's key is not known")

    async def _endpoints(self) -> ProviderMetadata:
        """Return the endpoints, which are read at the first login and then once an hour."""
        if self._is_due:
            await self._lock.acquire()
            try:
                if self._is_due:
                    await self._discover()
            finally:
                self._lock.release()
        if self._metadata is None:
            raise ServiceUnavailable(self._reason)
        return self._metadata

    @property
    def _is_due(self) -> bool:
        """Whether the endpoints are to be read: once an hour, and 5 s after a failure without any."""
        return self._context.clock.seconds() >= self._due_at

    async def _discover(self) -> None:
        """Read the endpoints of the provider, and keep the old ones if that fails."""
        url, now = self.issuer.rstrip("/") + DISCOVERY, self._context.clock.seconds()
        self._due_at = now + (RETRY_INTERVAL if self._metadata is None else DISCOVERY_AGE)
        try:
            answer = await self._context.http.request(
                "GET",
                url,
                fields=[_JSON],
                timeout=_TIMEOUT,
                max_body=MAX_DOCUMENT,
                identity=self._identity,
            )
            if answer.status != 200:
                raise ServiceUnavailable(f"{url} answered with status {answer.status}")
            found = ProviderMetadata.read(answer.body, self.issuer)
        except (InvalidProvider, SessionError) as error:
            self._reason = f"{url}: {error}" if isinstance(error, InvalidProvider) else str(error)
            self._context.log.warn(
                "[{section}] cannot read the endpoints of its provider: {reason}",
                section=self._context.section,
                reason=self._reason,
            )
            return
        if self._keys is None or self._metadata is None or found.keys != self._metadata.keys:
            self._keys = KeySetUrl(found.keys, self._identity, ALGORITHMS, self._context, self._keys)
        self._metadata, self._due_at = found, now + DISCOVERY_AGE

    def _secret(self) -> str:
        try:
            return _read_secret(self._secret_file)
        except BadValue as error:
            raise ServiceUnavailable(f"[{self._context.section}] client_secret_file {error}") from None

    def _where(self, url: str) -> str:
        return urlsplit(url)._replace(query="").geturl()


class OidcType:
    """The type ``oidc``."""

    name = "oidc"
    help = "Sends users of the portal to a provider of OpenID Connect; a session names it in `providers`."
    is_provider = True
    unknown_on_admin = "it logs in users of the portal alone, so nobody can log in here with it"
    keys = (
        Key(
            "issuer",
            AUTHENTICATOR,
            plain("https URL", lambda text: _issuer(text)),
            None,
            "The URL of the provider, exactly as in its discovery document.",
            required=True,
        ),
        Key("client_id", AUTHENTICATOR, plain("text", str), None, "The id of this client.", required=True),
        Key(
            "client_secret_file",
            AUTHENTICATOR,
            path("file"),
            None,
            "File with the secret of this client in its first line. It is read for each login.",
            required=True,
        ),
        Key(
            "scopes",
            AUTHENTICATOR,
            plain("words", lambda text: _scopes(text)),
            "openid profile",
            "The scopes that are asked for, `openid` among them.",
        ),
        Key(
            "user_claim",
            AUTHENTICATOR,
            plain("name of a claim", str),
            "sub",
            "The claim of the ID token with the name of the user. Other claims than `sub`, such as "
            "`preferred_username`, may be given to another person later.",
        ),
        Key(
            "groups_claim",
            AUTHENTICATOR,
            plain("name of a claim", str),
            "groups",
            "The claim of the ID token with the groups of the user.",
        ),
        Key(
            "ca",
            AUTHENTICATOR,
            CERTIFICATES,
            None,
            "PEM file with the authorities of the provider, instead of those of the machine.",
        ),
    )

    def conflicts(self, settings: SectionValues, names: Names) -> Iterator[tuple[str, str]]:
        """Yield a missing PyJWT, and a secret that cannot be read."""
        if (text := missing_package(self.name)) is not None:
            yield "type", text
        try:
            _read_secret(settings["client_secret_file"])
        except BadValue as error:
            yield "client_secret_file", str(error)

    def listener_warnings(self, settings: SectionValues, listener: SectionValues) -> Iterator[str]:
        """Yield a warning for a listener, whose clients it does not know by themselves."""
        yield "knows nobody by itself: name it in providers of a session, and the session here"

    def create(self, settings: SectionValues, context: Context) -> OidcProvider:
        """Return the provider."""
        return OidcProvider(settings, context)


def _read_secret(file: Path) -> str:
    """Return the first line of a file.  Raises BadValue."""
    try:
        secret = read_file(file, _MAX_SECRET).decode("ascii").partition("\n")[0].strip()
    except OSError as error:
        raise BadValue(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadValue("has no secret in ASCII") from None
    if not secret:
        raise BadValue("has no secret in its first line")
    return secret


def _issuer(text: str) -> str:
    """Return the URL of an issuer.  Raises BadValue."""
    try:
        url = urlsplit(text)
        host, _port = url.hostname, url.port
    except ValueError:
        host = None
    else:
        is_local = url.scheme == "http" and host in ("localhost", "127.0.0.1", "::1")
        if url.scheme != "https" and not is_local:
            host = None
    if not host or not text.isascii() or not text.isprintable() or any(mark in text for mark in "?#@ "):
        raise BadValue(f"{shown(text)} is no issuer: write https://HOST[/PATH], without query and user")
    return text


def _scopes(text: str) -> tuple[str, ...]:
    """Return scopes.  Raises BadValue."""
    found = tuple(text.replace(",", " ").split())
    if "openid" not in found:
        raise BadValue("lacks openid: without it the provider sends no ID token")
    return found


TYPE = OidcType()
