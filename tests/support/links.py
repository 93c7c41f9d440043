"""Keys and claims of signed links for the tests."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

ISSUER, AUDIENCE = "https://portal.example.com", "consoles"
SECRET = b"0123456789abcdef0123456789abcdef"
PIN = "sha256:" + "ab" * 32


@cache
def pair(kind: str) -> tuple[bytes, bytes]:
    """Return a private and a public key in PEM."""
    key: Any = {
        "eddsa": Ed25519PrivateKey.generate,
        "other": Ed25519PrivateKey.generate,
        "es256": lambda: generate_private_key(SECP256R1()),
        "es384": lambda: generate_private_key(SECP384R1()),
    }[kind]()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_folder(folder: Path) -> Path:
    """Create a folder with a private key of each algorithm: ed, ec and hs; pub is only public."""
    keys = folder / "keys"
    keys.mkdir()
    (keys / "ed.eddsa.pem").write_bytes(pair("eddsa")[0])
    (keys / "pub.eddsa.pem").write_bytes(pair("eddsa")[1])
    (keys / "ec.es256.pem").write_bytes(pair("es256")[0])
    (keys / "hs.hs256.key").write_bytes(SECRET + b"\n")
    return keys


def claims(now: float, **changed: Any) -> dict[str, Any]:
    """Return the claims of a valid link; a claim that is changed to None is left out."""
    whole = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "nbf": now,
        "exp": now + 300,
        "jti": "link-1",
        "to": {"host": "esxi1.example.com", "port": 443, "path": "/ticket/SECRET-TICKET"},
        **changed,
    }
    return {name: value for name, value in whole.items() if value is not None}


def b64(octets: bytes) -> bytes:
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


def token(
    payload: Any,
    kid: Any = "ed",
    key: Any = None,
    alg: str = "EdDSA",
    typ: Any = "esxiproxy+jwt",
    **header: Any,
) -> bytes:
    """Return a signed token with any claims and any header."""
    whole = {"kid": kid, "typ": typ, **header}
    key = key or {"EdDSA": pair("eddsa")[0], "ES256": pair("es256")[0], "HS256": SECRET}[alg]
    octets = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    named = {name: value for name, value in whole.items() if value is not None}
    return jwt.PyJWS().encode(octets, key, alg, headers=named).encode()


def forged(header: Any, payload: Any, signature: bytes = b"") -> bytes:
    """Return a token with any parts."""
    parts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in (header, payload)]
    return b".".join(map(b64, (*parts, signature)))


def hmac_of(key: bytes, header: Any, payload: Any) -> bytes:
    """Return a token with the HMAC of any octets, such as those of a public key."""
    unsigned = forged(header, payload)[:-1]
    return unsigned + b"." + b64(hmac.digest(key, unsigned, hashlib.sha256))
