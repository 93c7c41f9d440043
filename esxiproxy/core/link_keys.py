"""The keys that sign and verify links: a JWK Set (RFC 7517) in a file, or a folder with one file a key.

Each key has one algorithm, which its file or its JWK determines and never the link.  The package PyJWT, which
is optional, is imported by the functions that need it.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from esxiproxy.core.bounded_file import FileTooLarge, read_file

EDDSA, ES256, HS256 = "EdDSA", "ES256", "HS256"
"""The names of the algorithms (RFC 7518 3.1, RFC 8037 3.1).  EdDSA is Ed25519."""
SIGNATURE_OCTETS: Mapping[str, int] = MappingProxyType({EDDSA: 64, ES256: 64, HS256: 32})
"""The length of a signature of each algorithm."""

_ENDINGS = {".eddsa.pem": EDDSA, ".es256.pem": ES256, ".hs256.key": HS256}
_CURVES = {("OKP", "Ed25519"): EDDSA, ("EC", "P-256"): ES256, ("oct", None): HS256}
_KID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_FILE = 1 << 20
_MAX_KEYS = 1000
_MIN_SECRET = 32  # octets, RFC 7518 3.2
_FOLDER_RULE = "name the files KID.eddsa.pem, KID.es256.pem or KID.hs256.key"


class InvalidKeys(ValueError):
    """A file or a folder with keys of links cannot be used.  The text says why and has no part of a key."""


@dataclass(frozen=True, slots=True)
class LinkKey:
    """A key with its id and its one algorithm.

    ``private`` is None for a key that only verifies.  ``decoy`` is a token whose signature is wrong, which is
    verified in place of a token that cannot be, so that both take the same time.
    """

    kid: str
    algorithm: str
    public: Any = field(repr=False, compare=False)
    private: Any = field(repr=False, compare=False)
    decoy: bytes = field(repr=False, compare=False)


LinkKeys = Mapping[str, LinkKey]
"""Keys by their ids; never empty."""


def read_keys(path: Path) -> LinkKeys:
    """Return the keys in a JWK Set or in a folder.  Raises InvalidKeys.

    The call reads files, and blocks.
    """
    try:
        found = list(_in_folder(path) if path.is_dir() else _in_set(path))
    except OSError as error:
        raise InvalidKeys(f"{error.filename or path} cannot be read: {error.strerror}") from None
    keys: dict[str, LinkKey] = {}
    for key in found:
        if key.kid in keys:
            raise InvalidKeys(f"{path} has two keys with the id {key.kid!r}: a key has one algorithm")
        keys[key.kid] = key
    if not keys:
        raise InvalidKeys(f"{path} has no key: {_FOLDER_RULE}" if path.is_dir() else f"{path} has no key")
    if len(keys) > _MAX_KEYS:
        raise InvalidKeys(f"{path} has more than {_MAX_KEYS} keys")
    return MappingProxyType(keys)


def _in_folder(folder: Path) -> Iterator[LinkKey]:
    for file in sorted(folder.iterdir()):
        if file.name.startswith(".") or file.suffix not in (".pem", ".key"):
            continue
        ending = next((ending for ending in _ENDINGS if file.name.endswith(ending)), "")
        kid = file.name.removesuffix(ending)
        if not ending or not _KID.fullmatch(kid):
            raise InvalidKeys(f"{file} is no key of links: {_FOLDER_RULE}")
        algorithm, content = _ENDINGS[ending], _content(file)
        if algorithm == HS256:
            yield _secret(kid, content.removesuffix(b"\n").removesuffix(b"\r"), str(file))
        else:
            yield _pair(kid, algorithm, _from_pem(content, file), str(file))


def _content(file: Path) -> bytes:
    try:
        return read_file(file, _MAX_FILE)
    except FileTooLarge:
        raise InvalidKeys(f"{file} has more than {_MAX_FILE} bytes") from None


def _from_pem(content: bytes, file: Path) -> Any:
    try:
        if b"PRIVATE KEY-----" in content:
            return serialization.load_pem_private_key(content, password=None)
        return serialization.load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidKeys(
            f"{file} has no PUBLIC KEY and no PRIVATE KEY without a passphrase, in PEM"
        ) from None


def _in_set(file: Path) -> Iterator[LinkKey]:
    text = _content(file)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidKeys(f"{file} is no JSON: a JWK Set is wanted, or a folder with keys") from None
    listed = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise InvalidKeys(f'{file} is no JWK Set: it has to be {{"keys": [...]}}')
    for number, jwk in enumerate(listed, 1):
        where = f"key {number} of {file}"
        if not isinstance(jwk, dict):
            raise InvalidKeys(f"{where} is no object")
        if jwk.get("use", "sig") == "sig":  # others encrypt
            yield _from_jwk(jwk, where)


def _from_jwk(jwk: dict[str, Any], where: str) -> LinkKey:
    from jwt import algorithms, exceptions

    kid, kind, curve = jwk.get("kid"), jwk.get("kty"), jwk.get("crv")
    if not isinstance(kid, str) or not 0 < len(kid) <= 256 or not kid.isprintable():
        raise InvalidKeys(f'{where} has no "kid" of 1 to 256 characters')
    fits = isinstance(kind, str) and (curve is None or isinstance(curve, str))
    algorithm = _CURVES.get((kind, curve)) if fits and isinstance(kind, str) else None
    if algorithm is None or jwk.get("alg", algorithm) != algorithm:
        raise InvalidKeys(f"{where} is for another algorithm: links have EdDSA (Ed25519), ES256 or HS256")
    readers: dict[str, Any] = {
        EDDSA: algorithms.OKPAlgorithm.from_jwk,
        ES256: algorithms.ECAlgorithm.from_jwk,
        HS256: algorithms.HMACAlgorithm.from_jwk,
    }
    try:
        key = readers[algorithm](jwk)
    except (exceptions.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        raise InvalidKeys(f"{where} is no valid key for {algorithm}") from None
    return _secret(kid, key, where) if algorithm == HS256 else _pair(kid, algorithm, key, where)


def _secret(kid: str, secret: bytes, where: str) -> LinkKey:
    if len(secret) < _MIN_SECRET:
        raise InvalidKeys(f"{where} has {len(secret)} bytes: a key for HS256 has {_MIN_SECRET} at least")
    if b"-----BEGIN" in secret or secret.lstrip().startswith((b"ssh-", b"ecdsa-")):
        raise InvalidKeys(f"{where} is the key of another algorithm, and no secret for HS256")
    return LinkKey(kid, HS256, secret, secret, _decoy(kid, HS256))


def _pair(kid: str, algorithm: str, key: Any, where: str) -> LinkKey:
    private = key if isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey) else None
    public = key if private is None else private.public_key()
    fits = {
        EDDSA: isinstance(public, Ed25519PublicKey),
        ES256: isinstance(public, EllipticCurvePublicKey) and isinstance(public.curve, SECP256R1),
    }
    if not fits[algorithm]:
        wanted = {EDDSA: "an Ed25519 key", ES256: "a key on the curve P-256"}[algorithm]
        raise InvalidKeys(f"{where} is not {wanted}, which {algorithm} needs")
    return LinkKey(kid, algorithm, public, private, _decoy(kid, algorithm))


def _decoy(kid: str, algorithm: str) -> bytes:
    """Return a token of the usual length with a wrong signature, whose verification does all the work."""
    header = json.dumps({"alg": algorithm, "kid": kid}).encode()
    parts = (header, b'{"jti":"%b"}' % (b"x" * 300), b"\x01" * SIGNATURE_OCTETS[algorithm])
    return b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts)
