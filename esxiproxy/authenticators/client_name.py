"""The name and the groups in a client's certificate."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from esxiproxy.core.errors import AccessDenied
from esxiproxy.core.session.connection_limits import ANONYMOUS_NAME

UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""The errors of ``cryptography`` for a certificate, or a part of one, that cannot be read."""

_MAX_LENGTH = 255
_UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
_UTF8_STRING = 0x0C


class NameSource(Enum):
    """The part of a certificate that has the client's name."""

    COMMON_NAME = "subject:CN"
    """The common name of the subject."""
    EMAIL_ADDRESS = "subject:emailAddress"
    """The mail address of the subject."""
    EMAIL = "san:email"
    """The mail address among the alternative names."""
    DNS = "san:dns"
    """The DNS name among them."""
    URI = "san:uri"
    """The URI among them."""
    UPN = "san:upn"
    """The user principal name of Active Directory among them."""


class GroupSource(Enum):
    """The part of a certificate that has the client's groups."""

    UNIT = "subject:OU"
    """The organizational units of the subject."""
    ORGANIZATION = "subject:O"
    """The organizations of the subject."""
    NONE = "none"
    """The client has no groups."""


_ATTRIBUTES = {
    NameSource.COMMON_NAME: NameOID.COMMON_NAME,
    NameSource.EMAIL_ADDRESS: NameOID.EMAIL_ADDRESS,
    GroupSource.UNIT: NameOID.ORGANIZATIONAL_UNIT_NAME,
    GroupSource.ORGANIZATION: NameOID.ORGANIZATION_NAME,
}


def name_of(certificate: x509.Certificate, source: NameSource) -> str:
    """Return the client's name.  Raises AccessDenied unless the certificate has exactly one that is usable.

    A certificate with several names could be used under any of them, so it is refused.
    """
    found = _values(certificate, source)
    if not found:
        raise AccessDenied(f"the client's certificate has no {source.value}, which is its name here")
    if len(found) > 1:
        raise AccessDenied(f"the client's certificate has {len(found)} names in {source.value}, not one")
    (name,) = _usable(found, source)
    if name == ANONYMOUS_NAME:
        raise AccessDenied(f"{name} in a client's certificate is the name of clients that are not known")
    return name


def groups_of(certificate: x509.Certificate, source: GroupSource) -> frozenset[str]:
    """Return the client's groups.  Raises AccessDenied for one that is not usable."""
    return frozenset(_usable(_values(certificate, source), source))


def _values(certificate: x509.Certificate, source: NameSource | GroupSource) -> list[str | bytes]:
    """Return all values of a part.  Raises AccessDenied if they cannot be read."""
    try:
        if source is GroupSource.NONE:
            return []
        if source in _ATTRIBUTES:
            return [found.value for found in certificate.subject.get_attributes_for_oid(_ATTRIBUTES[source])]
        return list(_alternatives(certificate, source))
    except UNREADABLE as error:
        text = f"{source.value} of the client's certificate cannot be read"
        raise AccessDenied(text) from error


def _alternatives(certificate: x509.Certificate, source: NameSource | GroupSource) -> Iterable[str | bytes]:
    """Return the names of one kind in the subjectAltName (RFC 5280 4.2.1.6)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    if source is NameSource.EMAIL:
        return names.get_values_for_type(x509.RFC822Name)
    if source is NameSource.DNS:
        return names.get_values_for_type(x509.DNSName)
    if source is NameSource.URI:
        return names.get_values_for_type(x509.UniformResourceIdentifier)
    others = names.get_values_for_type(x509.OtherName)
    return [utf8_string(other.value) for other in others if other.type_id == _UPN]


def _usable(values: Iterable[str | bytes], source: NameSource | GroupSource) -> Iterable[str]:
    """Return the values.  Raises AccessDenied for one that could be shown or compared in two ways."""
    for value in values:
        if not isinstance(value, str):
            raise AccessDenied(f"{source.value} of the client's certificate is no text")
        if not value.strip():
            raise AccessDenied(f"{source.value} of the client's certificate is empty")
        if not value.isprintable():
            raise AccessDenied(f"{source.value} of the client's certificate has control characters")
        if value != value.strip():
            raise AccessDenied(f"{source.value} of the client's certificate is surrounded by spaces")
        if len(value) > _MAX_LENGTH:
            raise AccessDenied(f"{source.value} of the client's certificate is too long")
        yield value


def utf8_string(der: bytes) -> str:
    """Return the text of a UTF8String in DER (X.690 8.23).  Raises ValueError."""
    if len(der) < 2 or der[0] != _UTF8_STRING or der[1] == 0x80:
        raise ValueError("is no UTF8String")
    length, start = der[1], 2
    if length > 0x80:
        start += length - 0x80
        length = int.from_bytes(der[2:start])
    if start > 4 or len(der) != start + length:
        raise ValueError("is no UTF8String in DER")
    return der[start:].decode()
