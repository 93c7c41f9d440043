"""Sets of keys for signatures of JSON Web Tokens (JWKS, RFC 7517), read with limits.

Each key has one algorithm, which the signer of a token cannot choose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

from esxiproxy.core.bounded_file import FileTooLarge, NoRegularFile, read_file
from esxiproxy.core.strict_json import strict_json

MAX_DOCUMENT = 256 * 1024
"""Maximum size of a document in bytes."""
MAX_KEYS = 100
"""Maximum number of keys in a document, unusable ones included."""
MAX_KID = 256
"""Maximum number of characters of a key id."""
SYMMETRIC = MappingProxyType({"HS256": 32, "HS384": 48, "HS512": 64})
"""The algorithms whose key is a secret, with the bytes of their hash.  A key has at least as many bytes."""
RSA_BITS = range(2048, 8192 + 1)
"""The sizes of an RSA modulus.  Larger keys take milliseconds for a check."""

_TYPES: Mapping[tuple[str, str | None], tuple[str, ...]] = MappingProxyType(
    {
        ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        ("EC", "P-256"): ("ES256",),
        ("EC", "P-384"): ("ES384",),
        ("EC", "P-521"): ("ES512",),
        ("OKP", "Ed25519"): ("EdDSA",),
        ("oct", None): tuple(SYMMETRIC),
    }
)
"""The algorithms of each type of key and curve.  The first allowed one is that of a key without ``alg``."""
ALGORITHMS = tuple(algorithm for algorithms in _TYPES.values() for algorithm in algorithms)
"""All supported algorithms."""
_PUBLIC = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "oct": ("k",)}
"""The members that make up a key for checks."""


class BadKeys(ValueError):
    """A document or a file of keys that cannot be used.  ``str()`` is the reason, and has no key in it."""


@dataclass(frozen=True, slots=True)
class Jwk:
    """A key for signatures with its only algorithm.

    ``key`` checks signatures, and ``private_key`` makes them.  Both are objects of cryptography, or the bytes
    of a secret.  ``private_key`` is None unless private keys were asked for.  ``thumbprint`` tells keys with
    the same ``kid`` apart.
    """

    kid: str
    algorithm: str
    key: Any = field(repr=False, compare=False)
    thumbprint: str = field(repr=False)
    private_key: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of a document by their id, and the reasons why others were skipped."""

    keys: Mapping[str, Jwk]
    skipped: tuple[str, ...] = ()

    def find(self, kid: str | None, algorithm: str) -> Jwk | None:
        """Return the key of a token, or None.

        A token without ``kid`` has the key of its algorithm if there is exactly one.
        """
        if kid is not None:
            return self.keys.get(kid)
        found = [key for key in self.keys.values() if key.algorithm == algorithm]
        return found[0] if len(found) == 1 else None

    def has(self, key: Jwk) -> bool:
        """Return whether the set has this same key under its id."""
        return self.keys.get(key.kid) == key


class _Skipped(Exception):
    """A key that cannot be used, and the reason."""


def missing_package(type_name: str) -> str | None:
    """Return why a type whose keys are used by PyJWT cannot be used here, or None if it can."""
    try:
        import jwt as jwt
    except ImportError:
        return f"the type {type_name} needs the package PyJWT: pip install 'esxiproxy[auth]'"
    return None


def read_jwks(path: Path, algorithms: Collection[str], private: bool = False) -> KeySet:
    """Return the keys of a file as :func:`parse_jwks` does.

    Blocks.  Raises BadKeys, whose text names the file.
    """
    octets = read_key_file(path, MAX_DOCUMENT)
    try:
        return parse_jwks(octets, algorithms, private)
    except BadKeys as error:
        raise BadKeys(f"{path.name}: {error}") from None


def read_key_file(path: Path, most: int) -> bytes:
    """Return the content of a file of at most this size.  Raises BadKeys, whose text names the file."""
    try:
        return read_file(path, most)
    except FileNotFoundError:
        raise BadKeys(f"no such file: {path}") from None
    except (IsADirectoryError, NoRegularFile) as error:
        raise BadKeys(f"{path.name}: is no file ({error.strerror})") from None
    except FileTooLarge:
        raise BadKeys(f"{path.name}: is larger than {most} bytes") from None
    except OSError as error:
        raise BadKeys(f"{path.name}: cannot be read ({error.strerror})") from None


def parse_jwks(octets: bytes, algorithms: Collection[str], private: bool = False) -> KeySet:
    """Return the keys of a document for these algorithms.

    Other keys are skipped: those of unknown types, for encryption, for other algorithms, without an id, with
    the id of another one, or with invalid numbers.  Raises BadKeys if the document is no JWKS, has no usable
    key, or has a secret that is shorter than its hash.  Needs PyJWT.
    """
    if len(octets) > MAX_DOCUMENT:
        raise BadKeys(f"is larger than {MAX_DOCUMENT} bytes")
    try:
        document = strict_json(octets)
    except ValueError as error:
        raise BadKeys(f"is no JWKS document: {error}") from None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise BadKeys('is no JWKS document: write {"keys": [...]}')
    if len(listed) > MAX_KEYS:
        raise BadKeys(f"has {len(listed)} keys, and at most {MAX_KEYS} are allowed")
    found: list[Jwk] = []
    skipped: list[str] = []
    for number, members in enumerate(listed, 1):
        try:
            found.append(_jwk(members, algorithms, private))
        except _Skipped as reason:
            skipped.append(f"{_place(number, members)}: {reason}")
        except BadKeys as error:
            raise BadKeys(f"{_place(number, members)}: {error}") from None
    times = Counter(key.kid for key in found)
    skipped += [f"key {_shown(kid)}: {count} keys have this kid" for kid, count in times.items() if count > 1]
    keys = {key.kid: key for key in found if times[key.kid] == 1}
    if not keys:
        reasons = "; ".join(skipped[:3]) or "the list is empty"
        raise BadKeys(f"has no usable key: {reasons}")
    return KeySet(MappingProxyType(keys), tuple(skipped))


def _place(number: int, members: Any) -> str:
    kid = members.get("kid") if isinstance(members, dict) else None
    return f"key {_shown(kid)}" if isinstance(kid, str) and kid and kid.isprintable() else f"key {number}"


def _jwk(members: Any, algorithms: Collection[str], private: bool) -> Jwk:
    """Return the key of these members.  Raises _Skipped, or BadKeys for a key that must not be used."""
    if not isinstance(members, dict):
        raise _Skipped("is no object")
    kty = members.get("kty")
    curve = members.get("crv") if kty in ("EC", "OKP") else None
    if not isinstance(kty, str) or not isinstance(curve, str | None):
        raise _Skipped("its kty or its crv is no text")
    if members.get("use", "sig") != "sig":
        raise _Skipped("its use is not sig")
    operations = members.get("key_ops", ["verify"])
    if not isinstance(operations, list) or not {"verify", "sign"} & {str(each) for each in operations}:
        raise _Skipped("its key_ops have no verify")
    algorithm = _algorithm(kty, curve, members.get("alg"), algorithms)
    kid = members.get("kid")
    if not isinstance(kid, str) or not kid:
        raise _Skipped("has no kid")
    if len(kid) > MAX_KID or not kid.isprintable():
        raise _Skipped(f"its kid has more than {MAX_KID} characters, or others than printable ones")
    public = {name: members.get(name) for name in _PUBLIC[kty]}
    if not all(isinstance(value, str) and value.isascii() for value in public.values()):
        raise _Skipped(f"lacks one of {', '.join(public)}")
    key = _load({"kty": kty, **public}, algorithm)
    _check_size(key, algorithm)
    private_key = None
    if private and kty == "oct":
        private_key = key
    elif private and "d" in members:
        private_key = _load(members, algorithm)
    canonical = "\0".join((kty, *(str(value) for value in public.values())))
    return Jwk(kid, algorithm, key, sha256(canonical.encode()).hexdigest(), private_key)


def _algorithm(kty: str, curve: str | None, named: object, allowed: Collection[str]) -> str:
    possible = _TYPES.get((kty, curve))
    if possible is None:
        what = f"the type {_shown(kty)}" if curve is None else f"the curve {_shown(curve)}"
        raise _Skipped(f"{what} is not supported")
    if named is not None and named not in possible:
        raise _Skipped(f"its alg is none of {', '.join(possible)}")
    found = next((each for each in possible if each in allowed and named in (None, each)), None)
    if found is None:
        raise _Skipped(f"its algorithm {named or possible[0]} is not allowed")
    return found


def _load(members: Mapping[str, Any], algorithm: str) -> Any:
    from jwt import PyJWK, PyJWTError

    try:
        jwk = PyJWK(dict(members), algorithm)
        return jwk.Algorithm.prepare_key(jwk.key)
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError):  # its text has the members
        raise _Skipped("its numbers are no valid key") from None


def _check_size(key: Any, algorithm: str) -> None:
    if (least := SYMMETRIC.get(algorithm)) is not None and len(key) < least:
        raise BadKeys(f"the secret has {len(key)} bytes, and {algorithm} needs at least {least}")
    if algorithm[:2] in ("RS", "PS") and key.key_size not in RSA_BITS:
        raise _Skipped(
            f"its modulus has {key.key_size} bits, and {RSA_BITS[0]} to {RSA_BITS[-1]} are allowed"
        )


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 60 else f"{text[:57]}...")
