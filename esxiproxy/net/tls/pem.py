"""Reads the PEM files (RFC 7468) of a configuration: certificates and private keys.

They are not read by OpenSSL, because its errors contain neither the name of the file nor the fault.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import crypto

from esxiproxy.core.bounded_file import FileTooLarge, read_file

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

Some of these are not ValueErrors.  Parts of a certificate are parsed when they are first accessed.
"""

_MAX_FILE = 16 << 20


class TLSFileError(ValueError):
    """A certificate or key file that cannot be used; the message names the file and the fault."""


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Return the certificates of a file in their order, at least one.  Raises TLSFileError."""
    text = _read(path)
    try:
        return x509.load_pem_x509_certificates(text)
    except UNREADABLE as error:
        if b"-----BEGIN CERTIFICATE-----" in text:
            raise TLSFileError(f"{path} has a certificate that cannot be read: {error}") from error
        raise TLSFileError(f"{path} has no PEM certificate") from error


def read_private_key(path: Path) -> Any:
    """Return the private key of a file as a key object of ``cryptography``.  Raises TLSFileError."""
    text = _read(path)
    # A file may contain certificates before the key, as HAProxy requires.
    start = max(text.find(b"-----BEGIN " + kind) for kind in KEY_KINDS)
    if start < 0:
        raise TLSFileError(f"{path} has no PEM private key")
    try:
        return load_pem_private_key(text[start:], password=None)
    except TypeError as error:  # cryptography raises this for an encrypted key
        raise TLSFileError(
            f"{path} is encrypted, and the proxy cannot ask for the passphrase: "
            "store the key without one, readable by its owner only"
        ) from error
    except UNREADABLE as error:
        raise TLSFileError(f"{path} has a private key that cannot be read") from error


KEY_KINDS = (b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY", b"ENCRYPTED PRIVATE KEY")


def _read(path: Path) -> bytes:
    try:
        return read_file(path, _MAX_FILE)
    except FileNotFoundError as error:
        raise TLSFileError(f"no such file: {path}") from error
    except FileTooLarge as error:
        raise TLSFileError(f"{path} has more than {_MAX_FILE >> 20} MiB") from error
    except OSError as error:
        raise TLSFileError(f"{path} cannot be read: {error.strerror}") from error
