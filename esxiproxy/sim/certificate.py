"""The self-signed certificate of a simulated host, in memory or in files, with vSphere's thumbprints."""

from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import crypto
from twisted.internet.ssl import CertificateOptions, TLSVersion

LIFETIME = datetime.timedelta(days=3650)
_KEY_USAGE = x509.KeyUsage(
    digital_signature=True,
    key_encipherment=False,
    key_cert_sign=True,
    crl_sign=False,
    content_commitment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)
"""The key usage of a TLS server whose key also signs its own certificate."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, both as PEM text."""

    pem: str
    key_pem: str = field(repr=False)

    @property
    def sha1(self) -> str:
        """The SHA-1 thumbprint in vSphere's form, AA:BB:..."""
        return self._thumbprint(hashes.SHA1())

    @property
    def sha256(self) -> str:
        """The SHA-256 thumbprint in vSphere's form, AA:BB:..."""
        return self._thumbprint(hashes.SHA256())

    def context_factory(self) -> CertificateOptions:
        """Return a context factory for Twisted's TLS."""
        return CertificateOptions(
            privateKey=crypto.load_privatekey(crypto.FILETYPE_PEM, self.key_pem.encode()),
            certificate=crypto.load_certificate(crypto.FILETYPE_PEM, self.pem.encode()),
            raiseMinimumTo=TLSVersion.TLSv1_2,
            acceptableProtocols=[b"http/1.1"],  # without it, clients that offer ALPN are rejected
        )

    def _thumbprint(self, algorithm: hashes.HashAlgorithm) -> str:
        return x509.load_pem_x509_certificate(self.pem.encode()).fingerprint(algorithm).hex(":").upper()


def make() -> Certificate:
    """Make a self-signed certificate for localhost, 127.0.0.1 and ::1.

    It has what OpenSSL's strict checks require (``VERIFY_X509_STRICT``, Python's default since 3.13).
    A client that has it as its only authority accepts it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    # The dates of a certificate need the real time, not a test's clock.
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1")),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_KEY_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Certificate(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )


def load_or_make(certificate: Path, private_key: Path | None = None) -> Certificate:
    """Return the certificate in these files; create both if both are missing.

    Raises FileNotFoundError if only one of them is missing.
    """
    private_key = private_key or certificate.with_suffix(".key")
    if not certificate.exists() and not private_key.exists():
        made = make()
        _create(private_key, made.key_pem, 0o600)
        _create(certificate, made.pem, 0o644)
        return made
    return Certificate(certificate.read_text(), private_key.read_text())


def _create(path: Path, text: str, mode: int) -> None:
    # The file is created with its mode, so that a key is never readable by others.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)
