"""What a host's certificate says, read leniently: a doctor has to look at the broken ones above all."""

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
    """A leaf certificate.  The dates are None when they cannot be read; the thumbprints are always right."""

    subject: str
    issuer: str
    not_before: datetime | None
    not_after: datetime | None
    names: tuple[str, ...]
    pins: tuple[Pin, ...]
    """SHA-256 first, then SHA-1: newer and older vSphere versions hand these out with a ticket."""
    readable: bool = True
    """Whether the proxy can read the names, and so compare them."""


def read_certificate(der: bytes) -> CertificateFacts:
    """The facts in a certificate in DER."""
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


def day(moment: datetime | None) -> str:
    """A date for a sentence."""
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
