"""Keys, tokens, requests and a context for the tests of authenticators that check tokens."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent

from esxiproxy.authenticators.jwt import BEARER, JwtAuthenticator
from esxiproxy.authenticators.jwt_keys import KeySetFile
from esxiproxy.core.http.head import parse
from esxiproxy.core.http.request import Request
from esxiproxy.core.login_token import TokenRules
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.interfaces import Answer
from esxiproxy.plugins import Context
from esxiproxy.plugins.watched_files import SETTLE_DELAY
from tests.support.outcome import result

NOW = 1_800_000_000.0
ISSUER, AUDIENCE = "https://sso.example.com", "consoles"
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SECRET = b"0123456789abcdef0123456789abcdef"
ALLOWED = ("RS256", "PS256", "ES256", "EdDSA")
DECODERS = {
    "RSA": jwt.algorithms.RSAAlgorithm,
    "EC": jwt.algorithms.ECAlgorithm,
    "OKP": jwt.algorithms.OKPAlgorithm,
}


def jwk(key: Any, kid: str | None = "a", **members: Any) -> dict[str, Any]:
    """Return the JWK of a key, of the public half for a private one."""
    if isinstance(key, bytes):
        found = {"kty": "oct", "k": b64(key).decode()}
    else:
        kind = {rsa.RSAPrivateKey: "RSA", ec.EllipticCurvePrivateKey: "EC"}
        name = next((name for each, name in kind.items() if isinstance(key, each)), "OKP")
        found = json.loads(DECODERS[name].to_jwk(key.public_key()))
        found.pop("key_ops", None)
    return found | ({} if kid is None else {"kid": kid}) | members


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


KEYS = jwks(jwk(RSA, "rsa", alg="RS256"), jwk(OTHER_RSA, "pss", alg="PS256"), jwk(EC, "ec"), jwk(ED, "ed"))


def b64(octets: bytes) -> bytes:
    return urlsafe_b64encode(octets).rstrip(b"=")


def claims(**changes: Any) -> dict[str, Any]:
    """Return valid claims with changes; None takes a claim out."""
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 300, "iat": NOW} | changes
    return {name: value for name, value in whole.items() if value is not None}


def compact(header: Any, payload: Any, key: Any = RSA, algorithm: str | None = None) -> bytes:
    """Return a token of this header and payload, objects or bytes, with a true signature of the key."""
    parts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in (header, payload)]
    signed = b".".join(map(b64, parts))
    signer = jwt.get_algorithm_by_name(algorithm or header["alg"])
    return signed + b"." + b64(signer.sign(signed, key))


def token(key: Any = RSA, alg: str = "RS256", kid: str | None = "rsa", **changes: Any) -> bytes:
    header = {"alg": alg, "typ": "JWT"} | ({} if kid is None else {"kid": kid})
    return compact(header, claims(**changes), key)


def request(*fields: tuple[bytes, bytes]) -> Request:
    lines = b"".join(b"%b: %b\r\n" % field for field in fields)
    head = parse(b"GET /ticket/x HTTP/1.1\r\nHost: h\r\n" + lines + b"\r\n")
    return Request("s", "one", PeerAddress("192.0.2.1", 1), True, head)


def bearer(value: bytes) -> Request:
    return request((b"Authorization", b"Bearer " + value))


class FakeHttp:
    """An HTTP client whose answers the test gives, in their order; a Deferred is waited for."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, str, dict[str, Any]]] = []

    def request(self, method: str, url: str, **how: Any) -> Deferred[Answer]:
        self.requests.append((method, url, how))
        answer = self.answers.pop(0)

        def give() -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer if isinstance(answer, Answer | Deferred) else Answer(200, (), answer)

        return maybeDeferred(give)


class Scene:
    """A context of a plugin, with its clock, its HTTP client and its log lines."""

    def __init__(self, *answers: Any, previous: object = None) -> None:
        self.clock = Clock()
        self.http = FakeHttp(*answers)
        self.lines: list[str] = []
        self.watched: dict[Any, Any] = {}
        self.context = Context(
            section="authenticator sso",
            clock=self.clock,
            state=None,  # type: ignore[arg-type]
            upstreams={},
            http=self.http,  # type: ignore[arg-type]
            log=Logger(observer=lambda event: self.lines.append(formatEvent(event))),  # type: ignore[arg-type]
            previous=previous,
            in_thread=self.in_thread,
            watch=self.watched.__setitem__,
            end_sessions=None,  # type: ignore[arg-type]
        )

    def change(self, path: Path, content: bytes | None) -> None:
        """Write a file, or remove it with None, and let the authenticator read it."""
        path.unlink() if content is None else path.write_bytes(content)
        self.watched[path]()
        self.clock.advance(SETTLE_DELAY)

    def in_thread(self, call: Any, *arguments: Any) -> Deferred[Any]:
        return maybeDeferred(call, *arguments)


PUBLIC_PEM = RSA.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
HEADER = {"alg": "RS256", "typ": "JWT", "kid": "rsa"}


def make(folder, keys=KEYS, algorithms=ALLOWED, places=(BEARER,), now=lambda: NOW, scene=None, **rules):
    """Return an authenticator with the keys of a file."""
    path = folder / "keys.json"
    path.write_bytes(keys)
    source = KeySetFile(path, algorithms, (scene or Scene()).context)
    found = JwtAuthenticator(source, TokenRules(ISSUER, AUDIENCE, **rules), algorithms, places, now)
    result(found.ready())
    return found


def hs256(key, kid):
    """Return a token with an HMAC of a public key, which PyJWT itself refuses to make."""
    signed = b".".join(
        b64(json.dumps(each).encode()) for each in (HEADER | {"alg": "HS256", "kid": kid}, claims())
    )
    return signed + b"." + b64(hmac.digest(key, signed, hashlib.sha256))


def header(**members):
    return compact(HEADER | members, claims())
