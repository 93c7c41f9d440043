"""Test certificates that `certificates.py` does not make: an intermediate authority and a SHA-1 leaf."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.certificates import Authority, Certificate, _key_usage


def issue(
    issuer: Certificate,
    folder: Path,
    file: str,
    *,
    authority: bool = False,
    names: Sequence[x509.GeneralName] = (),
    extensions: Sequence[x509.ExtensionType] = (),
) -> Certificate:
    """Return a certificate signed by this issuer, which need not be a certificate authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, file)]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(_key_usage(authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    certificate = builder.sign(issuer.key, hashes.SHA256())
    path, key_path = folder / f"{file}.crt", folder / f"{file}.key"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return Certificate(certificate, key, path, key_path)


def sha1_signed(authority: Authority, bits: int = 2048) -> Certificate | None:
    """Return an RSA leaf that is signed with SHA-1 by openssl(1); None without that program."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    folder, file = authority.folder, f"old{bits}"
    path, key_path, request = folder / f"{file}.crt", folder / f"{file}.key", folder / f"{file}.csr"
    unlocked = ["-nodes", "-keyout", str(key_path)]
    signer = ["-CA", str(authority.own.path), "-CAkey", str(authority.own.key_path), "-CAcreateserial"]
    for arguments in (
        ["req", "-new", "-newkey", f"rsa:{bits}", "-subj", "/CN=old", *unlocked, "-out", str(request)],
        ["x509", "-req", "-sha1", "-days", "30", "-in", str(request), "-out", str(path), *signer],
    ):
        subprocess.run([openssl, *arguments], check=True, capture_output=True, timeout=60)
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    assert certificate.signature_hash_algorithm is not None
    assert certificate.signature_hash_algorithm.name == "sha1"
    key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    return Certificate(certificate, key, path, key_path)  # type: ignore[arg-type]
