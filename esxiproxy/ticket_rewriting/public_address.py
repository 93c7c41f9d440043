"""The address of a listener as its clients see it, with its certificate."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import new

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate

from esxiproxy.core.thumbprint import thumbprint

_ALGORITHMS = frozenset({"sha1", "sha256", "sha384", "sha512"})


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """The host and the port of a URL with https, and the certificate (DER) that its clients get."""

    host: str
    port: int
    certificate: bytes = field(repr=False)

    @classmethod
    def of(cls, url: str, certificate: bytes) -> PublicAddress:
        """Return the address in a checked URL ``https://HOST[:PORT]``."""
        host, _, port = url.removeprefix("https://").rpartition(":")
        if not host or not port.isdigit():
            host, port = url.removeprefix("https://"), "443"
        return cls(host.strip("[]"), int(port), certificate)

    def url(self, ticket: str) -> str:
        """Return the URL of the console of a ticket."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"wss://{host}:{self.port}/ticket/{ticket}"

    @property
    def pem(self) -> str:
        """The certificate in PEM."""
        return load_der_x509_certificate(self.certificate).public_bytes(Encoding.PEM).decode("ascii")

    @property
    def sha1(self) -> str:
        """The thumbprint by SHA-1, as ``AA:BB:..``."""
        return thumbprint(self.certificate, "sha1")

    def digest(self, algorithm: str) -> str | None:
        """Return the thumbprint by this algorithm, or None for an unknown one."""
        if algorithm not in _ALGORITHMS:
            return None
        return new(algorithm, self.certificate, usedforsecurity=False).hexdigest().upper()
