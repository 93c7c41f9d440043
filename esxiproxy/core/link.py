"""Signed links: the claim set, making a link and verifying one.

A link is a JWT (RFC 7519) with the ``typ`` ``esxiproxy+jwt``, or a random id under which the same claims are
stored, sealed.  The set of claims is fixed: a link with an unknown claim is refused, since that claim may be
a restriction.  No error has a part of the link or of its path.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from math import isfinite
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from esxiproxy.core.errors import LinkExpired, LinkInvalid
from esxiproxy.core.host_name import plain_host
from esxiproxy.core.link_keys import SIGNATURE_OCTETS, LinkKey, LinkKeys
from esxiproxy.core.networks import Network
from esxiproxy.core.sealing import seal, unseal
from esxiproxy.core.thumbprint import Pin

TYP = "esxiproxy+jwt"
"""The ``typ`` of the header, which no other token of the same issuer has."""
MANY = "many"
"""The value of ``reuse`` in a link that works any number of times until it expires."""
LEEWAY = 5.0
"""Seconds by which the clock of the issuer may differ."""
LONGEST = 400 * 86400.0
"""Maximum number of seconds between the making and the expiry of a link."""
MAX_TOKEN = 4096
"""Maximum number of octets of a link."""
MAX_REUSES = 10
"""The number of times that a link with ``reuse`` may be opened again."""

_REQUIRED = ("iss", "aud", "exp", "nbf", "iat", "jti", "to")
_KNOWN = frozenset({*_REQUIRED, "sub", "pin", "crt", "ttl", "reuse", "net", "view", "rec"})
_TARGET = frozenset({"host", "port", "path"})
_TOKEN = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)")
_OPAQUE = re.compile(rb"[A-Za-z0-9_-]{22}")
_ID = re.compile(r"[!-~]{1,128}")
_PATH = re.compile(r"/[!\"$-~]*")
_PIN = re.compile(r"(sha256):([0-9a-f]{64})|(sha1):([0-9a-f]{40})")
_MAX_PINS = 16
_NO_LINK = "A" * 22


@dataclass(frozen=True, slots=True)
class Link:
    """The verified claims of a link.

    ``id`` names the link in logs and opens nothing.  ``issued`` and ``expires`` are times of day.
    ``lifetime`` is the maximum age of a console in seconds.  ``once`` is whether the link works once; with
    ``reuse`` it works again for so many seconds after a disconnect.  ``network`` is that of the client.
    """

    id: str
    issued: float
    expires: float
    host: str
    port: int
    path: bytes = field(repr=False)
    subject: str | None = None
    pins: tuple[Pin, ...] = ()
    certificate: bytes | None = field(default=None, repr=False)
    lifetime: float | None = None
    once: bool = True
    reuse: float = 0.0
    network: Network | None = None

    def check_network(self, host: str) -> None:
        """Raise LinkInvalid if a client at this address may not use the link."""
        if self.network is None:
            return
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:  # a unix socket
            address = None
        if address is None or address.version != self.network.version or address not in self.network:
            raise LinkInvalid("the link is for clients of another network")


def make_token(claims: Mapping[str, Any], key: LinkKey) -> str:
    """Return a signed link.  Raises ValueError if the key cannot sign or the link becomes too long."""
    import jwt

    if key.private is None:
        raise ValueError(f"the key {key.kid} is public and cannot sign: a private key is needed")
    headers = {"kid": key.kid, "typ": TYP}
    token: str = jwt.encode(dict(claims), key.private, algorithm=key.algorithm, headers=headers)
    if len(token) > MAX_TOKEN:
        raise ValueError(f"the link has {len(token)} bytes and may have {MAX_TOKEN}: name a pin, not a crt")
    return token


def claims_in(token: bytes, keys: LinkKeys, issuer: str, audience: str) -> Mapping[str, Any]:
    """Return the claims of a token whose signature, issuer and audience are right.  Raises LinkInvalid.

    One signature is verified in every case.  The times are not checked.
    """
    import jwt

    key, fault = _key_for(token, keys)
    try:
        claims: dict[str, Any] = jwt.decode(
            key.decoy if fault else token,
            key.public,
            algorithms=[key.algorithm],
            audience=audience,
            issuer=issuer,
            options={
                "require": list(_REQUIRED),
                "verify_signature": True,
                "verify_iss": True,
                "verify_aud": True,
                "strict_aud": True,
                "enforce_minimum_key_length": True,
                # PyJWT rounds times to seconds, and reads a clock of its own: read_claims checks them.
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise LinkInvalid(fault or _reason(error)) from None
    if fault:  # no signature of a decoy is valid
        raise LinkInvalid(fault)
    return claims


def _key_for(token: bytes, keys: LinkKeys) -> tuple[LinkKey, str]:
    """Return the key of a token, and why the token is not verified with it, or an empty text."""
    import jwt

    key = next(iter(keys.values()))
    if len(token) > MAX_TOKEN:
        return key, f"the link is longer than {MAX_TOKEN} bytes"
    if (parts := _TOKEN.fullmatch(token)) is None:
        return key, "the link is no signed token"
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return key, "the link's header is not valid"
    named = header.get("kid")
    if not isinstance(named, str) or named not in keys:
        return key, "no key has the id in the link's header"
    key = keys[named]
    if header.get("alg") != key.algorithm:
        return key, "the link's algorithm is not that of its key"
    if header.get("typ") != TYP:
        return key, "the token is no link: its typ is another"
    if "crit" in header or "b64" in header:
        return key, "the link's header has an extension"
    if len(parts[1]) != -(-SIGNATURE_OCTETS[key.algorithm] * 4 // 3):
        return key, "the link's signature is not valid"
    return key, ""


def _reason(error: Exception) -> str:
    import jwt

    reasons = {
        jwt.InvalidAudienceError: "the link is for another audience",
        jwt.InvalidIssuerError: "the link is of another issuer",
        jwt.MissingRequiredClaimError: "the link has not all required claims",
        jwt.InvalidSignatureError: "the link's signature is not valid",
    }
    return reasons.get(type(error), "the link is not valid")


def new_id() -> str:
    """Return a random id of 128 bits, of a link or of an opaque link itself."""
    return secrets.token_urlsafe(16)


def opaque_in(text: bytes) -> tuple[str, bool]:
    """Return the opaque link in this text and True; if it is none, one that is never made and False."""
    return (text.decode("ascii"), True) if _OPAQUE.fullmatch(text) else (_NO_LINK, False)


def sealed_claims(claims: Mapping[str, Any], link: str, section: str) -> str:
    """Return the claims of an opaque link in the form in which they are stored."""
    return seal(json.dumps(dict(claims)), link, f"esxiproxy link {section}")


def unsealed_claims(sealed: str | None, link: str, section: str) -> Mapping[str, Any]:
    """Return the stored claims of an opaque link.  Raises LinkInvalid if there are none."""
    try:
        claims = json.loads(unseal(sealed or "", link, f"esxiproxy link {section}"))
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise LinkInvalid("there is no such link, or it has expired")
    return claims


def read_claims(claims: Mapping[str, Any], issuer: str, audience: str, now: float) -> Link:
    """Return the link with these claims at this time of day.  Raises LinkInvalid or LinkExpired."""
    if claims.get("iss") != issuer:
        raise LinkInvalid("the link is of another issuer")
    if claims.get("aud") != audience:
        raise LinkInvalid("the link is for another audience")
    expires, begins, issued = (_number(claims, name) for name in ("exp", "nbf", "iat"))
    if now >= expires + LEEWAY:
        raise LinkExpired("the link has expired")
    if max(begins, issued) > now + LEEWAY:
        raise LinkExpired("the link is not valid yet")
    if expires - issued > LONGEST:
        raise LinkInvalid(f"the link is valid for more than {LONGEST / 86400:g} days")
    if unknown := sorted(claims.keys() - _KNOWN):
        raise LinkInvalid(f"the link has an unknown claim: {unknown[0][:32]!r}")
    for flag in ("view", "rec"):
        if claims.get(flag, False) is not False:
            raise LinkInvalid(f"the link asks for a restriction that cannot be enforced: {flag}")
    to = claims.get("to")
    if not isinstance(to, dict) or to.keys() != _TARGET:
        raise _invalid("to")
    reuse = claims.get("reuse", 0)
    if "pin" in claims and "crt" in claims:
        raise LinkInvalid("the link has a pin and a crt")
    return Link(
        id=_text(claims, "jti", _ID.fullmatch),
        issued=issued,
        expires=expires,
        host=_host(to["host"]),
        port=_port(to["port"]),
        path=_text(to, "path", _PATH.fullmatch).encode("ascii"),
        subject=_subject(claims["sub"]) if "sub" in claims else None,
        pins=_pins(claims["pin"]) if "pin" in claims else (),
        certificate=_certificate(claims["crt"]) if "crt" in claims else None,
        lifetime=_positive(claims, "ttl") if "ttl" in claims else None,
        once=reuse != MANY,
        reuse=0.0 if reuse in (0, MANY) else _positive(claims, "reuse"),
        network=_network(claims["net"]) if "net" in claims else None,
    )


def _invalid(claim: str) -> LinkInvalid:
    return LinkInvalid(f"the link's claim {claim} is not valid")


def _number(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid(name)
    try:
        number = float(value)
    except OverflowError:
        raise _invalid(name) from None
    if not isfinite(number):
        raise _invalid(name)
    return number


def _positive(claims: Mapping[str, Any], name: str) -> float:
    number = _number(claims, name)
    if not 0 < number <= LONGEST:
        raise _invalid(name)
    return number


def _text(claims: Mapping[str, Any], name: str, matches: Callable[[str], object]) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not matches(value):
        raise _invalid(name)
    return value


def _host(value: Any) -> str:
    try:
        if not isinstance(value, str) or value.endswith("."):
            raise ValueError
        return plain_host(value)
    except ValueError:
        raise _invalid("to.host") from None


def _port(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65536:
        raise _invalid("to.port")
    return value


def _subject(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 256 or not value.isprintable():
        raise _invalid("sub")
    return value


def _pins(value: Any) -> tuple[Pin, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= _MAX_PINS:
        raise _invalid("pin")
    found = []
    for text in value:
        algorithm, _, digest = text.lower().partition(":") if isinstance(text, str) else ("", "", "")
        match = _PIN.fullmatch(f"{algorithm}:{digest.replace(':', '')}")
        if match is None:
            raise _invalid("pin")
        found.append(Pin(match[1] or match[3], match[2] or match[4]))
    return tuple(found)


def _certificate(value: Any) -> bytes:
    try:
        return x509.load_pem_x509_certificate(value.encode("ascii")).public_bytes(Encoding.DER)
    except (AttributeError, ValueError):
        raise _invalid("crt") from None


def _network(value: Any) -> Network:
    try:
        return ip_network(value if isinstance(value, str) else "")
    except ValueError:
        raise _invalid("net") from None
