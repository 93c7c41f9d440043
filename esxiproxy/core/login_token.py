"""Checks JSON Web Tokens that identify a client: signature and claims (RFC 7519, RFC 8725).

The texts of all errors are fixed.  They contain nothing of the token.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from esxiproxy.core.jwks import Jwk
from esxiproxy.core.strict_json import strict_json

MAX_TOKEN = 8 * 1024
"""Maximum size of a token in bytes."""
MAX_NAME = 256
"""Maximum number of characters of the name of a principal or a group."""
LATEST = 253_402_300_800.0
"""The time of day after which no login ends: the end of the year 9999."""

_SHAPE = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_TYPES = frozenset({"jwt", "at+jwt"})
"""The values of ``typ`` of tokens that identify a client.  Logout tokens and links have others."""
_SEPARATORS = re.compile(r"[ ,]+")


class InvalidToken(ValueError):
    """A token that does not identify a client.  ``str()`` is the reason."""


@dataclass(frozen=True, slots=True)
class TokenHeader:
    """The algorithm in a token's header, and the id of its key if it has one."""

    algorithm: str
    kid: str | None


@dataclass(frozen=True, slots=True)
class TokenLogin:
    """The client that a token identifies.  ``expires`` is the time of day at which the token expires."""

    name: str
    groups: frozenset[str]
    expires: float


@dataclass(frozen=True, slots=True)
class TokenRules:
    """The claims that a token needs.

    ``user`` and ``groups`` are the names of the claims for the client's name and groups.  ``leeway`` is the
    difference in seconds that the clocks may have.
    """

    issuer: str
    audience: str
    leeway: float = 5.0
    user: str = "sub"
    groups: str = "groups"

    def login(self, claims: Mapping[str, Any], now: float) -> TokenLogin:
        """Return the client that the claims of a verified token identify.  Raises InvalidToken."""
        if claims.get("iss") != self.issuer:
            raise InvalidToken("the token has another issuer, or none")
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if not all(isinstance(each, str) for each in audiences) or self.audience not in audiences:
            raise InvalidToken("the token is for another audience, or for none")
        expires = _time(claims, "exp")
        if expires is None:
            raise InvalidToken("the token has no expiry (exp)")
        if expires <= now - self.leeway:
            raise InvalidToken("the token has expired")
        for claim in ("nbf", "iat"):
            if (since := _time(claims, claim)) is not None and since > now + self.leeway:
                raise InvalidToken(f"the token is not valid yet ({claim})")
        return TokenLogin(_name(claims.get(self.user)), _groups(claims.get(self.groups)), expires)


def has_token_shape(octets: bytes) -> bool:
    """Return whether a text has the three parts of a signed token.  The last two may be empty."""
    return _SHAPE.fullmatch(octets) is not None


def token_header(token: bytes, types: frozenset[str] = _TYPES) -> TokenHeader:
    """Return the header of a token whose type is one of ``types``.  Raises InvalidToken.

    The members ``jku``, ``x5u``, ``jwk`` and ``x5c``, which name a key, are ignored.
    """
    if len(token) > MAX_TOKEN:
        raise InvalidToken(f"the token has more than {MAX_TOKEN} bytes")
    if not has_token_shape(token):
        raise InvalidToken("the token has not the three parts of a signed JWT")
    header = _object(token.partition(b".")[0], "header")
    if "crit" in header or "b64" in header:
        raise InvalidToken("the token needs an extension (crit) that is not supported")
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str):
        raise InvalidToken("the token names no algorithm")
    if "kid" in header and not isinstance(kid, str):
        raise InvalidToken("the id of the token's key is no text")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in types:
        raise InvalidToken("the token is of a type (typ) for another purpose")
    return TokenHeader(algorithm, kid)


def verified_claims(token: bytes, key: Jwk, types: frozenset[str] = _TYPES) -> Mapping[str, Any]:
    """Return the claims of a token that was signed with this key.  Raises InvalidToken.  Needs PyJWT."""
    from jwt import PyJWS, PyJWTError

    if token_header(token, types).algorithm != key.algorithm:
        raise InvalidToken("the token's algorithm is not that of its key")
    _header, payload, signature = token.split(b".")
    _octets(signature, "signature")
    try:
        PyJWS([key.algorithm]).decode(token, key.key, [key.algorithm])
    except (PyJWTError, ValueError):
        raise InvalidToken("the token's signature is not valid") from None
    return _object(payload, "payload")


def _object(part: bytes, name: str) -> dict[str, Any]:
    try:
        value = strict_json(_octets(part, name))
    except InvalidToken:
        raise
    except ValueError as error:
        raise InvalidToken(f"the token's {name} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise InvalidToken(f"the token's {name} is no object")
    return value


def _octets(part: bytes, name: str) -> bytes:
    """Return the bytes in base64url without padding, of which there is exactly one spelling."""
    try:
        octets = urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except ValueError:
        octets = b""
    if urlsafe_b64encode(octets).rstrip(b"=") != part:
        raise InvalidToken(f"the token's {name} is no base64url")
    return octets


def _time(claims: Mapping[str, Any], claim: str) -> float | None:
    if claim not in claims:
        return None
    value = claims[claim]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidToken(f"the token's {claim} is no number")
    if not 0 <= value <= LATEST:
        raise InvalidToken(f"the token's {claim} is no time before the year 10000")
    return float(value)


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidToken("the token has no name of the client, or one that is no text")
    if not value.strip():
        raise InvalidToken("the name in the token is empty")
    if len(value) > MAX_NAME:
        raise InvalidToken(f"the name in the token has more than {MAX_NAME} characters")
    if not value.isprintable():
        raise InvalidToken("the name in the token has control characters, or others that cannot be printed")
    return value


def _groups(value: object) -> frozenset[str]:
    if value is None:
        return frozenset()
    listed = _SEPARATORS.split(value) if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(group, str) for group in listed):
        raise InvalidToken("the groups in the token are neither a list of texts nor a text")
    if not all(len(group) <= MAX_NAME and group.isprintable() for group in listed):
        raise InvalidToken(f"a group in the token has control characters, or more than {MAX_NAME} characters")
    return frozenset(group for group in listed if group)
