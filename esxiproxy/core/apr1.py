"""The password hash ``$apr1$`` of Apache: MD5 in 1,000 rounds, as its ``htpasswd -m`` writes it."""

from __future__ import annotations

from hashlib import md5

_PREFIX = b"$apr1$"
_ROUNDS = 1000
_DIGITS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ORDER = ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5))
"""The octets of the digest that each group of four digits has; the octet 11 follows in two digits."""


def apr1(password: bytes, salt: bytes) -> str:
    """Return the 22 digits of a hash.  ``salt`` has at most eight characters.

    The work grows with the length of the password, which the caller limits.
    """
    inner = _md5(password + salt + password)
    text = password + _PREFIX + salt
    text += (inner * (len(password) // 16 + 1))[: len(password)]
    bits = len(password)
    while bits:
        text += b"\0" if bits & 1 else password[:1]
        bits >>= 1
    digest = _md5(text)
    for count in range(_ROUNDS):
        text = password if count % 2 else digest
        if count % 3:
            text += salt
        if count % 7:
            text += password
        digest = _md5(text + (digest if count % 2 else password))
    return _digits(digest)


def _md5(octets: bytes) -> bytes:
    return md5(octets, usedforsecurity=False).digest()


def _digits(digest: bytes) -> str:
    groups = [
        (digest[first] << 16 | digest[second] << 8 | digest[third], 4) for first, second, third in _ORDER
    ]
    groups.append((digest[11], 2))
    return "".join(_DIGITS[number >> 6 * place & 63] for number, length in groups for place in range(length))
