"""Lists of revoked certificates (CRL, RFC 5280 5) in files.

The signature of a list is not verified: its file is trusted as the configuration is.  A list applies to the
certificates of its issuer only, and covers the client's certificate, not those of intermediate authorities.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from esxiproxy.authenticators.client_name import UNREADABLE
from esxiproxy.core.config.file_content import file_content
from esxiproxy.core.errors import AccessDenied
from esxiproxy.plugins import BadValue

_MAX_FILE = 64 << 20
_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----[^-]*-----END X509 CRL-----")


class ListUnusable(Exception):
    """A list that cannot say which certificates are revoked, with the reason."""


@dataclass(frozen=True, slots=True)
class RevocationList:
    """The revoked certificates of an issuer: their serial numbers.

    ``key_id`` is the identifier of the issuer's key, None where the list has none.  The list is valid from
    ``since`` until ``until``, which are times of day.
    """

    file: Path
    issuer: x509.Name
    key_id: bytes | None
    since: float
    until: float
    serials: frozenset[int] = field(repr=False)

    def check_time(self, now: float) -> None:
        """Raise ListUnusable if the list is not valid at this time."""
        if now >= self.until:
            raise ListUnusable(f"{self.file}: the list of revoked certificates has expired: replace it")
        if now < self.since:
            raise ListUnusable(f"{self.file}: the list of revoked certificates is not valid yet")

    def applies(self, certificate: x509.Certificate) -> bool:
        """Return whether the issuer of the list is that of the certificate."""
        if self.issuer != certificate.issuer:
            return False
        key_id = _key_id(certificate.extensions)
        return self.key_id is None or key_id is None or self.key_id == key_id


def check_revocation(certificate: x509.Certificate, lists: Sequence[RevocationList], now: float) -> None:
    """Raise AccessDenied for a revoked certificate, and for one whose issuer has no list.

    Raises ListUnusable if one of the lists has expired, whichever issuer it has.
    """
    for revoked in lists:
        revoked.check_time(now)
    try:
        found = [revoked for revoked in lists if revoked.applies(certificate)]
    except UNREADABLE as error:
        raise AccessDenied("the client's certificate cannot be read") from error
    if not found:
        raise AccessDenied("no list of revoked certificates has the issuer of the client's certificate")
    if any(certificate.serial_number in revoked.serials for revoked in found):
        raise AccessDenied("the client's certificate is revoked")


def read_lists(paths: Iterable[Path]) -> tuple[RevocationList, ...]:
    """Return the lists in these files, which are PEM or DER.  Raises BadValue."""
    return tuple(found for path in paths for found in _read(path))


def _read(path: Path) -> list[RevocationList]:
    content = file_content(path, _MAX_FILE)
    try:
        if b"-----BEGIN" not in content:
            return [_list(path, x509.load_der_x509_crl(content))]
        blocks = _BLOCK.findall(content)
        if not blocks or len(blocks) != content.count(b"-----BEGIN"):
            raise BadValue(f"has something else than complete PEM blocks of X509 CRL: {path}")
        return [_list(path, x509.load_pem_x509_crl(block)) for block in blocks]
    except BadValue:
        raise
    except UNREADABLE:
        raise BadValue(f"is no list of revoked certificates (CRL), or a damaged one: {path}") from None


def _list(path: Path, crl: x509.CertificateRevocationList) -> RevocationList:
    """Return the list of a CRL.  Raises BadValue for one that covers a part of the certificates."""
    if crl.next_update_utc is None:
        raise BadValue(f"has no time of the next update, so that it would never expire: {path}")
    if (fault := _fault(crl.extensions)) is not None:
        raise BadValue(f"{fault}: {path}")
    return RevocationList(
        path,
        crl.issuer,
        _key_id(crl.extensions),
        crl.last_update_utc.timestamp(),
        crl.next_update_utc.timestamp(),
        frozenset(revoked.serial_number for revoked in crl),
    )


def _fault(extensions: x509.Extensions) -> str | None:
    """Return why the list does not cover all certificates of its issuer; None if it does."""
    for extension in extensions:
        point = extension.value
        if isinstance(point, x509.DeltaCRLIndicator):
            return "is a delta CRL, and a complete one is needed"
        if isinstance(point, x509.IssuingDistributionPoint):
            if (
                point.full_name is not None
                or point.relative_name is not None
                or point.only_contains_ca_certs
                or point.only_contains_attribute_certs
                or point.indirect_crl
                or point.only_some_reasons is not None
            ):
                return "covers only a part of the certificates of its issuer, and a complete one is needed"
        elif extension.critical:
            return f"has a critical extension that is not known, {extension.oid.dotted_string}"
    return None


def _key_id(extensions: x509.Extensions) -> bytes | None:
    try:
        return extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return None
