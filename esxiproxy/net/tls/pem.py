"""The PEM files (RFC 7468) that a configuration names: certificates and private keys.

Each is read once, by us and not by OpenSSL: its errors name neither the file nor what is wrong with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import crypto

UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    crypto.Error,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""All errors of ``cryptography`` and pyOpenSSL for a certificate, or a part of one, that cannot be read.

Half of these are no ValueError, and parts of a certificate are parsed only when they are asked for.
"""


class TLSFileError(ValueError):
    """A certificate or key file that cannot be used; ``str()`` is a sentence that names it."""


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Every certificate of a file, in its order; at least one."""
    text = _read(path)
    try:
        return x509.load_pem_x509_certificates(text)
    except UNREADABLE as error:
        if b"-----BEGIN CERTIFICATE-----" in text:
            raise TLSFileError(f"{path} has a certificate that cannot be read: {error}") from error
        raise TLSFileError(f"{path} has no PEM certificate") from error


def read_private_key(path: Path) -> Any:
    """The private key of a file, in whatever kind of key ``cryptography`` makes of it."""
    text = _read(path)
    # One file may hold both, as HAProxy wants it; the key may come after the certificates there.
    start = max(text.find(b"-----BEGIN " + kind) for kind in KEY_KINDS)
    if start < 0:
        raise TLSFileError(f"{path} has no PEM private key")
    try:
        return load_pem_private_key(text[start:], password=None)
    except TypeError as error:  # cryptography's way to say that it wants a password
        raise TLSFileError(
            f"{path} is encrypted, and a daemon has nobody to ask for the passphrase: "
            "store the key without one, readable by its owner only"
        ) from error
    except UNREADABLE as error:
        raise TLSFileError(f"{path} has a private key that cannot be read") from error


KEY_KINDS = (b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY", b"ENCRYPTED PRIVATE KEY")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise TLSFileError(f"no such file: {path}") from error
    except OSError as error:
        raise TLSFileError(f"{path} cannot be read: {error.strerror}") from error
