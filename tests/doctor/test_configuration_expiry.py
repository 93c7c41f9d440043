"""The days until the certificates of a configuration expire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from esxiproxy.app.preflight import load
from esxiproxy.doctor.configuration.expiry import (
    certificate_files,
    days_left,
    expiry_phrase,
    expiry_verdict,
)
from esxiproxy.doctor.configuration.result import CheckResult, CheckVerdict
from tests.support.certificates import Authority, Certificate
from tests.support.config import ini, listener, upstream

DAY = timedelta(days=1)
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("left", "days", "verdict", "phrase"),
    [
        (-3 * DAY, -3, CheckVerdict.ERROR, "has expired on 2026-04-28"),
        (timedelta(0), 0, CheckVerdict.ERROR, "has expired on 2026-05-01"),
        (timedelta(hours=1), 0, CheckVerdict.ERROR, "expires today, on 2026-05-01"),
        (1.5 * DAY, 1, CheckVerdict.ERROR, "expires in 1 day, on 2026-05-03"),
        (7 * DAY - timedelta(seconds=1), 6, CheckVerdict.ERROR, "expires in 6 days, on 2026-05-08"),
        (7 * DAY, 7, CheckVerdict.WARNING, "expires in 7 days, on 2026-05-08"),
        (30 * DAY - timedelta(seconds=1), 29, CheckVerdict.WARNING, "expires in 29 days, on 2026-05-31"),
        (30 * DAY, 30, CheckVerdict.OK, "expires in 30 days, on 2026-05-31"),
    ],
)
def test_days_left(left: timedelta, days: int, verdict: CheckVerdict, phrase: str) -> None:
    until = NOW + left
    assert days_left(until, NOW) == days
    assert expiry_verdict(days) is verdict
    assert expiry_phrase(until, NOW) == phrase


def expiring(folder: Path, certificate: Certificate, **keys: object) -> list[CheckResult]:
    file = folder / "proxy.ini"
    file.write_text(ini(listener(tls=certificate, **keys), upstream(9)))
    return list(certificate_files(load(file), datetime.now(UTC)))


@pytest.mark.parametrize(
    ("days", "verdict", "words"),
    [
        (90.5, CheckVerdict.OK, "the certificate expires in 90 days"),
        (20.5, CheckVerdict.WARNING, "renew it and reload the proxy"),
        (-1.5, CheckVerdict.ERROR, "the certificate has expired on"),
    ],
)
def test_the_certificate_of_a_listener(
    tmp_path: Path, days: float, verdict: CheckVerdict, words: str
) -> None:
    leaf = Authority(tmp_path).server("leaf", not_before=-90 * DAY, not_after=days * DAY)
    (found,) = expiring(tmp_path, leaf)
    assert (found.verdict, found.section, found.name) == (verdict, "listener one", "certificate")
    assert words in found.finding and found.certificate_days == days // 1


def test_an_issuer_in_the_file_that_expires_first(tmp_path: Path) -> None:
    """Clients refuse the chain when the issuer's certificate has expired."""
    authority = Authority(tmp_path)  # its own certificate has 30 days
    leaf = authority.server("leaf", not_after=90 * DAY)
    leaf.path.write_text(leaf.pem + authority.own.pem)
    (found,) = expiring(tmp_path, leaf)
    assert found.finding.startswith("an issuer's certificate in the file expires in 29 days")


def test_authorities_that_expire(tmp_path: Path) -> None:
    """The last one of the file decides, since a bundle keeps those that are replaced."""
    leaf = Authority(tmp_path).server("leaf", not_after=90 * DAY)
    authority = Authority(tmp_path / "other")  # 30 days
    (_own, found) = expiring(tmp_path, leaf, client_ca=authority.path)
    assert (found.verdict, found.name) == (CheckVerdict.WARNING, "client_ca")
    assert found.finding.startswith("the authority expires in 29 days")
    both = tmp_path / "both.crt"
    both.write_text(authority.own.pem + leaf.pem)
    assert len(expiring(tmp_path, leaf, client_ca=both)) == 1
