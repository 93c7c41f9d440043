"""Password hashes: the formats that are accepted, and the check of a password.

Hashes of bcrypt and argon2 are checked by the libraries of these names, which are imported when a file has
such a hash.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha1
from hmac import compare_digest

from esxiproxy.core.apr1 import apr1

MAX_PASSWORD = 1024
"""Maximum number of bytes of a password."""

_MAX_BCRYPT = 72
_MAX_COST = 17
"""The maximum cost of bcrypt, which is that of Apache's ``htpasswd``."""
_MAX_MEMORY = 4 << 20  # KiB
_MAX_TIME = 1000
_MAX_LANES = 64

# The last character of a salt stands for two bits, and the library refuses other ones.
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_ARGON2 = re.compile(
    r"\$argon2(?:id|i)\$(?:v=(?:16|19)\$)?m=([0-9]{1,9}),t=([0-9]{1,9}),p=([0-9]{1,9})"
    r"\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{6,171})"
)
_APR1 = re.compile(r"\$apr1\$[!-#%-9;-~]{1,8}\$[./0-9A-Za-z]{22}")
_SHA = "{SHA}"
_DES = re.compile(r"[./0-9A-Za-z]{13}")
_KNOWN = {
    "$1$": "MD5 crypt",
    "$2": "bcrypt of another version",
    "$5$": "SHA-256 crypt",
    "$6$": "SHA-512 crypt",
    "$7$": "scrypt",
    "$y$": "yescrypt",
    "$argon2d$": "argon2d",
    "{SSHA}": "salted SHA-1",
    "{PLAIN}": "a plain password",
}
"""Formats that are refused, by the beginning of such a hash."""
_INSTEAD = "write it with htpasswd -B"


class UnusableHash(ValueError):
    """A password hash that cannot be used.  The text never has the hash, which may be a plain password."""


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """A password hash of an accepted format.  ``parse_hash`` makes it."""

    text: str = field(repr=False)
    _check: Callable[[str, bytes], bool] = field(repr=False)

    def verify(self, password: bytes) -> bool:
        """Return whether this is the password.  The call takes long: it belongs into a thread."""
        return len(password) <= MAX_PASSWORD and self._check(self.text, password)


def parse_hash(text: str) -> PasswordHash:
    """Return the hash in the second part of a line of a password file.  Raises UnusableHash."""
    if text.startswith(("$2a$", "$2b$", "$2y$")):
        return PasswordHash(_checked_bcrypt(text), _verify_bcrypt)
    if text.startswith(("$argon2id$", "$argon2i$")):
        return PasswordHash(_checked_argon2(text), _verify_argon2)
    if text.startswith("$apr1$"):
        if not _APR1.fullmatch(text):
            raise UnusableHash(f"the apr1 hash is incomplete or has other characters: {_INSTEAD}")
        return PasswordHash(text, _verify_apr1)
    if text.startswith(_SHA):
        if len(_decoded(text.removeprefix(_SHA))) != 20:
            raise UnusableHash(f"the SHA-1 hash is incomplete or has other characters: {_INSTEAD}")
        return PasswordHash(text, _verify_sha1)
    raise UnusableHash(_refusal(text))


def _refusal(text: str) -> str:
    if not text:
        return f"there is no hash behind the name: {_INSTEAD}"
    if _DES.fullmatch(text):
        return f"the hash is DES crypt, of which eight characters of a password count: {_INSTEAD}"
    for start, name in _KNOWN.items():
        if text.startswith(start):
            return f"the hash is {name}, which is not supported: {_INSTEAD}"
    return f"the hash has no known format, or is a plain password: {_INSTEAD}"


def _checked_bcrypt(text: str) -> str:
    found = _BCRYPT.fullmatch(text)
    if not found:
        raise UnusableHash(f"the bcrypt hash is incomplete or has other characters: {_INSTEAD}")
    if not 4 <= int(found[1]) <= _MAX_COST:
        raise UnusableHash(f"the bcrypt hash has the cost {int(found[1])}: 4 to {_MAX_COST} are accepted")
    try:
        import bcrypt as bcrypt
    except ImportError:
        raise UnusableHash(_missing("bcrypt", "bcrypt")) from None
    return text


def _checked_argon2(text: str) -> str:
    found = _ARGON2.fullmatch(text)
    if not found or not _decoded(found[4]) or not _decoded(found[5]):
        raise UnusableHash("the argon2 hash is incomplete or has other characters: write it anew")
    memory, passes, lanes = (int(found[group]) for group in (1, 2, 3))
    if not (1 <= lanes <= _MAX_LANES and 1 <= passes <= _MAX_TIME and 8 * lanes <= memory <= _MAX_MEMORY):
        raise UnusableHash(
            f"the argon2 hash has parameters that are not accepted: m from 8*p to {_MAX_MEMORY}, "
            f"t from 1 to {_MAX_TIME} and p from 1 to {_MAX_LANES} are"
        )
    try:
        import argon2 as argon2
    except ImportError:
        raise UnusableHash(_missing("argon2", "argon2-cffi")) from None
    return text


def _missing(name: str, package: str) -> str:
    return f"a hash of {name} needs the package {package}: pip install 'esxiproxy[auth]'"


def _decoded(text: str) -> bytes:
    """Return the octets of a Base64 text with or without padding; none if it is no such text."""
    bare = text.rstrip("=")
    try:
        octets = b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (Base64Error, ValueError):
        return b""
    return octets if b64encode(octets).decode().rstrip("=") == bare else b""


def _verify_bcrypt(text: str, password: bytes) -> bool:
    import bcrypt

    if len(password) > _MAX_BCRYPT:
        return False
    return bool(bcrypt.checkpw(password, text.encode()))


def _verify_argon2(text: str, password: bytes) -> bool:
    from argon2.exceptions import VerifyMismatchError
    from argon2.low_level import Type, verify_secret

    kind = Type.ID if text.startswith("$argon2id$") else Type.I
    try:
        return bool(verify_secret(text.encode(), password, kind))
    except VerifyMismatchError:
        return False


def _verify_apr1(text: str, password: bytes) -> bool:
    _start, _name, salt, digits = text.split("$")
    return compare_digest(apr1(password, salt.encode()), digits)


def _verify_sha1(text: str, password: bytes) -> bool:
    digest = sha1(password, usedforsecurity=False).digest()
    return compare_digest(digest, _decoded(text.removeprefix(_SHA)))
