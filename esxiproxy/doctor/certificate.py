"""The contents of a host's certificate, read leniently: broken certificates have to be described too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from esxiproxy.core.thumbprint import Pin, pin_of
from esxiproxy.net.tls.errors import shown_name
from esxiproxy.net.tls.pem import UNREADABLE as CANNOT_READ

UNREADABLE = "cannot be read"


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """The contents of a leaf certificate.  The dates are None if they cannot be read."""

    subject: str
    issuer: str
    not_before: datetime | None
    not_after: datetime | None
    names: tuple[str, ...]
    pins: tuple[Pin, ...]
    """The SHA-256 and the SHA-1 thumbprint.  Newer and older vSphere versions issue these with a ticket."""
    readable: bool = True
    """Whether the proxy can read the names and compare them."""


def read_certificate(der: bytes) -> CertificateFacts:
    """Read a certificate in DER."""
    pins = (pin_of(der, "sha256"), pin_of(der, "sha1"))
    try:
        certificate = x509.load_der_x509_certificate(der)
    except CANNOT_READ:
        return CertificateFacts(UNREADABLE, UNREADABLE, None, None, (), pins, readable=False)
    names = _names(certificate)
    return CertificateFacts(
        _readable(lambda: certificate.subject.rfc4514_string()) or "(empty)",
        _readable(lambda: certificate.issuer.rfc4514_string()) or "(empty)",
        _date(lambda: certificate.not_valid_before_utc),
        _date(lambda: certificate.not_valid_after_utc),
        names or (),
        pins,
        readable=names is not None,
    )


def format_date(moment: datetime | None) -> str:
    """Return a date as text for a message."""
    return UNREADABLE if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _readable(read: Callable[[], str]) -> str:
    try:
        return read()
    except CANNOT_READ:
        return UNREADABLE


def _date(read: Callable[[], datetime]) -> datetime | None:
    try:
        return read()
    except CANNOT_READ:
        return None


def _names(certificate: x509.Certificate) -> tuple[str, ...] | None:
    """Return the names that RFC 9525 compares, without the common name; None if they cannot be read."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = extension.value.get_values_for_type(x509.DNSName)
        addresses = extension.value.get_values_for_type(x509.IPAddress)
    except x509.ExtensionNotFound:
        return ()
    except CANNOT_READ:
        return None
    return (*map(shown_name, names), *map(str, addresses))
