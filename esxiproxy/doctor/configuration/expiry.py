"""The days until certificates expire: the rule, and the certificates in files of a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from esxiproxy.core.config.model import Config
from esxiproxy.core.routing import Verify
from esxiproxy.doctor.configuration.result import CheckKind, CheckResult, CheckVerdict
from esxiproxy.net.tls.pem import UNREADABLE, TLSFileError, read_certificates

WARN_DAYS = 30
"""A certificate that expires within these days is a warning."""
ERROR_DAYS = 7
"""A certificate that expires within these days is an error."""

_DAY = timedelta(days=1)


def days_left(until: datetime, now: datetime) -> int:
    """Return the whole days until a certificate expires, below 0 if it has expired."""
    return (until - now) // _DAY


def expiry_verdict(days: int) -> CheckVerdict:
    """Return the verdict on a certificate with so many days left."""
    if days < ERROR_DAYS:
        return CheckVerdict.ERROR
    return CheckVerdict.WARNING if days < WARN_DAYS else CheckVerdict.OK


def expiry_phrase(until: datetime, now: datetime) -> str:
    """Return ``has expired on DATE`` or ``expires in N days, on DATE``."""
    days = days_left(until, now)
    date = f"{until.astimezone(UTC):%Y-%m-%d}"
    if until <= now:
        return f"has expired on {date}"
    return f"expires {'today' if days == 0 else f'in {days} day' + 's' * (days != 1)}, on {date}"


def certificate_files(config: Config, now: datetime) -> Iterator[CheckResult]:
    """Yield the results for the certificates of listeners and of [admin], and for authorities that expire.

    A file that cannot be read has a problem of its own and is left out.
    """
    for listener in config.listeners:
        if listener.tls is None:
            continue
        section = f"listener {listener.name}"
        yield from _chain(section, listener.tls.certificate, now)
        if listener.tls.client_ca is not None:
            yield from _authorities(section, "client_ca", listener.tls.client_ca, now)
    if config.admin is not None and config.admin.tls is not None:
        yield from _chain("admin", config.admin.tls.certificate, now)
    for name, upstream in config.upstreams.items():
        if upstream.ca is not None and upstream.verify is Verify.CA:
            yield from _authorities(f"upstream {name}", "ca", upstream.ca, now)


def _chain(section: str, path: Path, now: datetime) -> Iterator[CheckResult]:
    """Yield the result for a listener's certificate and its issuers: the first that expires decides."""
    found = _dates(path)
    if not found:
        return
    until = min(found)
    days, verdict = days_left(until, now), expiry_verdict(days_left(until, now))
    subject = "the certificate" if until == found[0] else "an issuer's certificate in the file"
    finding = f"{subject} {expiry_phrase(until, now)}"
    if verdict is not CheckVerdict.OK:
        finding += ": renew it and reload the proxy, or clients refuse the connection"
    yield CheckResult(CheckKind.CERTIFICATE, verdict, section, "certificate", str(path), finding, days)


def _authorities(section: str, key: str, path: Path, now: datetime) -> Iterator[CheckResult]:
    """Yield a result if all authorities of a file expire soon; a bundle may have some that have expired."""
    found = _dates(path)
    if not found:
        return
    until = max(found)
    days, verdict = days_left(until, now), expiry_verdict(days_left(until, now))
    if verdict is not CheckVerdict.OK:
        last = "the authority" if len(found) == 1 else f"the last of {len(found)} authorities"
        finding = f"{last} {expiry_phrase(until, now)}: add the one that replaces it, and reload the proxy"
        yield CheckResult(CheckKind.CERTIFICATE, verdict, section, key, str(path), finding, days)


def _dates(path: Path) -> list[datetime]:
    try:
        return [_until(certificate) for certificate in read_certificates(path)]
    except (TLSFileError, *UNREADABLE):
        return []


def _until(certificate: x509.Certificate) -> datetime:
    return certificate.not_valid_after_utc
