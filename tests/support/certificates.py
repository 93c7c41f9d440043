"""Certificates for the tests: an authority, what it signs, and what signs itself, as files in a folder."""

from __future__ import annotations

import hashlib
import ipaddress
import shutil
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


def colons(digest: bytes) -> str:
    """Return a digest as VMware and openssl print it: `AA:BB:...`."""
    return digest.hex(":").upper()


class Shown:
    """A certificate that a server can show: its DER, and the PEM files of it and of its key."""

    __slots__ = ()
    der: bytes
    path: Path
    key_path: Path

    @property
    def sha256(self) -> str:
        """The thumbprint over the whole certificate, with colons."""
        return colons(hashlib.sha256(self.der).digest())

    @property
    def sha1(self) -> str:
        """The thumbprint that older vSphere versions hand out, with colons."""
        return colons(hashlib.sha1(self.der).digest())

    def server_context(self) -> ssl.SSLContext:
        """Return a server's context with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key_path)
        return context


@dataclass(frozen=True, slots=True)
class Certificate(Shown):
    """One certificate and its key, as objects and as PEM files."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes
    path: Path
    key_path: Path

    @property
    def der(self) -> bytes:  # type: ignore[override]
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> str:
        return self.path.read_text()


class Authority:
    """A certificate authority that lives in a folder.

    >>> ca = Authority(tmp_path)
    >>> server = ca.server("proxy", names=["proxy.test"], addresses=["127.0.0.1"])
    >>> client = ca.client("alice")
    """

    def __init__(self, folder: Path, name: str = "esxiproxy test CA") -> None:
        self.folder = folder
        self.own = _issue(folder, "ca", name, None, authority=True)
        self.path = self.own.path

    def server(
        self,
        file: str = "server",
        names: Sequence[str] = ("localhost",),
        addresses: Sequence[str] = ("127.0.0.1", "::1"),
        not_before: timedelta = -DAY,
        not_after: timedelta = 30 * DAY,
        key: str = "ec",
    ) -> Certificate:
        """Issue a server's certificate; both times count from now, so `not_after=-DAY` has expired."""
        usage, name = ExtendedKeyUsageOID.SERVER_AUTH, [*names, file][0]
        return _issue(self.folder, file, name, self.own, names, addresses, not_before, not_after, key, usage)

    def client(
        self, file: str = "client", not_before: timedelta = -DAY, not_after: timedelta = 30 * DAY
    ) -> Certificate:
        """Issue a client's certificate, whose common name is the name of the file."""
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        return _issue(self.folder, file, file, self.own, (), (), not_before, not_after, "ec", usage)


def self_signed(
    folder: Path,
    file: str = "self",
    names: Sequence[str] = ("localhost",),
    addresses: Sequence[str] = ("127.0.0.1", "::1"),
    not_before: timedelta = -DAY,
    not_after: timedelta = 30 * DAY,
    key: str = "ec",
) -> Certificate:
    """Issue a self-signed certificate of a server, as a new ESXi host has it."""
    usage = ExtendedKeyUsageOID.SERVER_AUTH
    return _issue(folder, file, [*names, file][0], None, names, addresses, not_before, not_after, key, usage)


def issue(
    issuer: Certificate,
    folder: Path,
    file: str,
    *,
    authority: bool = False,
    names: Sequence[x509.GeneralName] = (),
    extensions: Sequence[x509.ExtensionType] = (),
    key: str | CertificateIssuerPrivateKeyTypes = "ec",
) -> Certificate:
    """Return a certificate signed by this issuer, which need not be a certificate authority."""
    return _issue(
        folder, file, file, issuer, key=key, authority=authority, alternatives=names, extensions=extensions
    )


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


def qemu_folder(folder: Path, authority: Authority, server: Certificate) -> Path:
    """Create the folder that QEMU's `tls-creds-x509` needs for `endpoint=server`."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(authority.path, folder / "ca-cert.pem")
    shutil.copy(server.path, folder / "server-cert.pem")
    shutil.copy(server.key_path, folder / "server-key.pem")
    return folder


def _issue(
    folder: Path,
    file: str,
    common_name: str,
    issuer: Certificate | None,
    names: Sequence[str] = (),
    addresses: Sequence[str] = (),
    not_before: timedelta = -DAY,
    not_after: timedelta = 30 * DAY,
    key: str | CertificateIssuerPrivateKeyTypes = "ec",
    usage: x509.ObjectIdentifier | None = None,
    authority: bool = False,
    alternatives: Sequence[x509.GeneralName] = (),
    extensions: Sequence[x509.ExtensionType] = (),
) -> Certificate:
    """Create a key, a certificate that the issuer or the key itself signs, and their two files.

    `alternatives` are further names of other kinds, and `extensions` are critical.
    """
    private: CertificateIssuerPrivateKeyTypes
    if not isinstance(key, str):
        private = key
    elif key == "rsa":
        private = rsa.generate_private_key(65537, 2048)
    else:
        private = ec.generate_private_key(ec.SECP256R1())
    public, signer = private.public_key(), issuer.key if issuer else private
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + not_before)
        .not_valid_after(now + not_after)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(_key_usage(authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    found: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    found += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    found += alternatives
    if found:
        builder = builder.add_extension(x509.SubjectAlternativeName(found), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    folder.mkdir(parents=True, exist_ok=True)
    path, key_path = folder / f"{file}.crt", folder / f"{file}.key"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    key_path.chmod(0o600)
    return Certificate(certificate, private, path, key_path)


def _key_usage(authority: bool) -> x509.KeyUsage:
    """Return the usage of a key; QEMU refuses a server's key without encipherment."""
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
