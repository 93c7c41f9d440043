"""The certificates of listeners: their subject, their names and the time that is left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from esxiproxy.admin.file_reads import FileReads

_DAY = 86400.0
_LARGEST = 1 << 20
_Look = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class CertificateSummary:
    """The leaf certificate of a file.  ``expires`` is a time of day."""

    subject: str
    names: tuple[str, ...]
    expires: float
    sha256: str

    def fields(self, now: float) -> dict[str, Any]:
        """Return the certificate as the API returns it at this time of day."""
        return {
            "subject": self.subject,
            "names": list(self.names),
            "expires": max(0.0, self.expires),
            "days": int((self.expires - now) // _DAY),
            "sha256": self.sha256,
        }


class CertificateReader:
    """Reads certificates in a thread, and again when their files have changed.

    While a disk hangs, what was read before is returned.
    """

    _log = Logger()

    def __init__(self, in_thread: Callable[..., Awaitable[Any]], clock: IReactorTime) -> None:
        self._in_thread = in_thread
        self._reads = FileReads(clock)
        self._known: dict[Path, tuple[_Look | None, CertificateSummary | None]] = {}

    async def read(self, path: Path) -> CertificateSummary | None:
        """Return the first certificate of a PEM file; None if the file cannot be read."""
        await self._reads.run(str(path), partial(self._look, path))
        known = self._known.get(path)
        return None if known is None else known[1]

    async def _look(self, path: Path) -> None:
        """Read a file if it has changed."""
        before = self._known.get(path)
        look, found, error = await self._in_thread(_read, path, before[0] if before else None)
        if before is not None and look == before[0]:
            return
        if error:
            self._log.warn("cannot read the certificate in {file}: {error}", file=str(path), error=error)
        self._known[path] = look, found


def _read(path: Path, before: _Look | None) -> tuple[_Look | None, CertificateSummary | None, str]:
    """Return the look of a file, and its certificate unless the file looks as before, or an error."""
    try:
        facts = path.stat()
        look = facts.st_mtime_ns, facts.st_size, facts.st_ino
        if look == before:
            return look, None, ""
        with path.open("rb") as source:
            content = source.read(_LARGEST)
    except OSError as error:
        return None, None, error.strerror or "unknown error"
    try:
        return look, _summary(x509.load_pem_x509_certificates(content)[0]), ""
    except ValueError:
        return look, None, "no certificate in PEM that can be read"


def _summary(certificate: x509.Certificate) -> CertificateSummary:
    return CertificateSummary(
        certificate.subject.rfc4514_string(),
        _names(certificate),
        certificate.not_valid_after_utc.timestamp(),
        sha256(certificate.public_bytes(Encoding.DER)).hexdigest(),
    )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = map(str, found.get_values_for_type(x509.IPAddress))
    return (*found.get_values_for_type(x509.DNSName), *addresses)
