"""The rules of OpenID Connect for a client with a server: code with PKCE, ID tokens, back-channel logout.

References are to OpenID Connect Core 1.0 where nothing else is said.  The texts of all errors are fixed.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from esxiproxy.core.login_token import InvalidToken, TokenLogin, TokenRules
from esxiproxy.core.sealing import key_of
from esxiproxy.core.strict_json import strict_json

DISCOVERY = "/.well-known/openid-configuration"
MAX_DOCUMENT = 256 << 10
"""Maximum size of a document of a provider in bytes."""
_BACK_CHANNEL = "http://schemas.openid.net/event/backchannel-logout"
_MAX_TEXT = 2048


class InvalidProvider(ValueError):
    """A document of a provider that cannot be used.  ``str()`` is the reason."""


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """The endpoints of a provider (OpenID Connect Discovery 1.0).

    ``basic`` is whether the client authenticates itself with Basic at the token endpoint, and otherwise in
    the form.
    """

    authorization: str
    token: str
    keys: str
    basic: bool = True

    @classmethod
    def read(cls, octets: bytes, issuer: str) -> ProviderMetadata:
        """Return the endpoints in a discovery document.  Raises InvalidProvider."""
        found = _object(octets)
        if found.get("issuer") != issuer:
            raise InvalidProvider("the discovery document is that of another issuer")
        authorization, token, keys = (
            _url(found.get(name), issuer.startswith("https://"))
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")
        )
        methods = found.get("token_endpoint_auth_methods_supported")
        basic = not isinstance(methods, list) or "client_secret_basic" in methods
        return cls(authorization, token, keys, basic)


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """The secrets of one login, all derived from the random text in the cookie of its browser.

    Nothing is stored for an attempt, so that attempts without end fill nothing.
    """

    secret: str = field(repr=False)

    @property
    def state(self) -> str:
        """The ``state`` of the request (3.1.2.1)."""
        return key_of(f"state {self.secret}")

    @property
    def nonce(self) -> str:
        """The ``nonce`` of the request (3.1.2.1)."""
        return key_of(f"nonce {self.secret}")

    @property
    def verifier(self) -> str:
        """The code verifier (RFC 7636 4.1)."""
        return key_of(f"verifier {self.secret}")

    @property
    def challenge(self) -> str:
        """The code challenge (RFC 7636 4.2)."""
        digest = sha256(self.verifier.encode("ascii")).digest()
        return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")

    def authorization_url(
        self, metadata: ProviderMetadata, client: str, redirect: str, scopes: tuple[str, ...]
    ) -> str:
        """Return the URL to which the browser is sent (3.1.2.1)."""
        query = {
            "response_type": "code",
            "client_id": client,
            "redirect_uri": redirect,
            "scope": " ".join(scopes),
            "state": self.state,
            "nonce": self.nonce,
            "code_challenge": self.challenge,
            "code_challenge_method": "S256",
        }
        url = urlsplit(metadata.authorization)
        return url._replace(query=urlencode([*parse_qsl(url.query), *query.items()]), fragment="").geturl()


@dataclass(frozen=True, slots=True)
class OidcIdentity:
    """The client that an ID token identifies, with the names that a back-channel logout has for it."""

    login: TokenLogin
    subject: str
    session: str


def identity_of(claims: Mapping[str, Any], rules: TokenRules, nonce: str, now: float) -> OidcIdentity:
    """Return the client that a verified ID token identifies (3.1.3.7).  Raises InvalidToken."""
    login = rules.login(claims, now)
    if claims.get("nonce") != nonce:
        raise InvalidToken("the token has another nonce: it is that of another login")
    if claims.get("azp", rules.audience) != rules.audience:
        raise InvalidToken("the token is for another client (azp)")
    if "iat" not in claims:
        raise InvalidToken("the token has no time of issue (iat)")
    return OidcIdentity(login, _text(claims, "sub"), _text(claims, "sid") if "sid" in claims else "")


def logout_of(claims: Mapping[str, Any], issuer: str, client: str, now: float) -> tuple[str, str]:
    """Return the subject and the session that a verified logout token ends; one of them may be empty.

    (OpenID Connect Back-Channel Logout 1.0, 2.6.)  Raises InvalidToken.
    """
    rules = TokenRules(issuer, client, user="iss")
    rules.login(claims, now)
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(_BACK_CHANNEL), dict):
        raise InvalidToken("the token is no logout token")
    if "nonce" in claims or "iat" not in claims:
        raise InvalidToken("the token has a nonce or no time of issue: it is no logout token")
    subject, session = (_text(claims, name) if name in claims else "" for name in ("sub", "sid"))
    if not subject and not session:
        raise InvalidToken("the token names neither a subject nor a session")
    return subject, session


def id_token_in(octets: bytes) -> bytes:
    """Return the ID token in the answer of the token endpoint (3.1.3.3).  Raises InvalidProvider."""
    token = _object(octets).get("id_token")
    if not isinstance(token, str) or not token.isascii():
        raise InvalidProvider("the answer of the token endpoint has no ID token")
    return token.encode("ascii")


def _object(octets: bytes) -> Mapping[str, Any]:
    try:
        found = strict_json(octets)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidProvider("the document of the provider is no JSON object")
    return found


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise InvalidToken(f"the token's {name} is no text")
    return value


def _url(text: Any, is_secure: bool) -> str:
    """Return an endpoint of a discovery document.  Raises InvalidProvider."""
    schemes = ("https",) if is_secure else ("https", "http")
    if isinstance(text, str) and len(text) <= _MAX_TEXT and text.isascii() and text.isprintable():
        try:
            url = urlsplit(text)
            if url.scheme in schemes and url.hostname:
                return text
        except ValueError:
            pass
    raise InvalidProvider("the discovery document lacks an endpoint, or has one without https")
