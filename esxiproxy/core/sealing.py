"""Seals values that hold a secret, so that only the secret of the item opens them.

The key of the item and the key of the encryption are both derived from the secret, in different ways.  A
database that is read opens nothing.
"""

from __future__ import annotations

import os
from base64 import b64decode, urlsafe_b64encode
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE = 12  # octets, as NIST SP 800-38D recommends for GCM


def key_of(secret: str) -> str:
    """Return the key of an item: the SHA-256 digest of its secret, in hexadecimal digits."""
    return sha256(_octets(secret)).hexdigest()


def seal(value: str, secret: str, label: str) -> str:
    """Return the value encrypted for the owner of the secret.

    ``secret`` must be random, of 128 bits at least.  ``label`` separates the uses of one secret.
    """
    nonce = os.urandom(_NONCE)
    sealed = nonce + AESGCM(_derive(secret, label)).encrypt(nonce, _octets(value), None)
    return urlsafe_b64encode(sealed).decode("ascii")


def unseal(sealed: str, secret: str, label: str) -> str:
    """Return the value that was sealed with this secret and this label.

    Raises ValueError when it was sealed with others, or was changed.
    """
    try:
        octets = b64decode(sealed, altchars=b"-_", validate=True)
        opened = AESGCM(_derive(secret, label)).decrypt(octets[:_NONCE], octets[_NONCE:], None)
        return opened.decode("utf-8", "surrogatepass")
    except (InvalidTag, ValueError):
        raise ValueError("the sealed value was not made with this secret and label") from None


def _derive(secret: str, label: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=_octets(label)).derive(_octets(secret))


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
