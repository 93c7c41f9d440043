"""The verification of a host by chain and name, by a pin, or not at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from OpenSSL.SSL import X509VerificationCodes as Codes

from esxiproxy.core.routing import TLSProfile, Upstream, Verify
from esxiproxy.core.thumbprint import Pin
from esxiproxy.doctor.url import ConsoleUrl

_PIN = re.compile(r"(?i)(?:(sha-?1|sha-?256):)?((?:[0-9a-f]{2}:?)+)")
_LENGTHS = {"sha1": 40, "sha256": 64}


class BadPin(ValueError):
    """Raised for a text that is not a pin."""


@dataclass(frozen=True, slots=True)
class HostVerification:
    """The verification of a host, as the ``verify`` key of an upstream describes it."""

    verify: Verify = Verify.SYSTEM
    pins: tuple[Pin, ...] = ()
    ca: Path | None = None
    tls_profile: TLSProfile = TLSProfile.INTERMEDIATE

    def upstream(self, url: ConsoleUrl) -> Upstream:
        """Return the upstream that a configuration with this verification would have for the URL."""
        return Upstream(
            "upstream",
            url.host,
            url.port,
            url.secure,
            self.verify,
            self.pins,
            self.ca,
            tls_profile=self.tls_profile,
        )


class CertificateProblem(Enum):
    """Faults of a certificate; the value completes a sentence that begins with "the certificate"."""

    EXPIRED = "has expired"
    NOT_YET_VALID = "is not valid yet"
    SELF_SIGNED = "is signed by itself"
    UNKNOWN_AUTHORITY = "is signed by an authority that is not known here"
    AUTHORITY_EXPIRED = "is signed by an authority whose certificate has expired"
    BAD_SIGNATURE = "has a wrong signature"
    PURPOSE = "is not meant for a server"
    WEAK = "has a key or a signature that is too weak"
    OTHER = "is not accepted by OpenSSL"
    UNREADABLE = "cannot be read"
    NAME = "is for another name"


OF_NAMES = frozenset({CertificateProblem.UNREADABLE, CertificateProblem.NAME})
"""The problems of a certificate's names; all others concern its chain."""

_BY_NUMBER = {
    Codes.ERR_CERT_SIGNATURE_FAILURE: CertificateProblem.BAD_SIGNATURE,
    Codes.ERR_CERT_NOT_YET_VALID: CertificateProblem.NOT_YET_VALID,
    Codes.ERR_CERT_HAS_EXPIRED: CertificateProblem.EXPIRED,
    Codes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT: CertificateProblem.SELF_SIGNED,
    Codes.ERR_SELF_SIGNED_CERT_IN_CHAIN: CertificateProblem.UNKNOWN_AUTHORITY,
    Codes.ERR_UNABLE_TO_GET_ISSUER_CERT: CertificateProblem.UNKNOWN_AUTHORITY,
    Codes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY: CertificateProblem.UNKNOWN_AUTHORITY,
    Codes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: CertificateProblem.UNKNOWN_AUTHORITY,
    Codes.ERR_INVALID_PURPOSE: CertificateProblem.PURPOSE,
    66: CertificateProblem.WEAK,  # X509_V_ERR_EE_KEY_TOO_SMALL, CA_KEY_TOO_SMALL, CA_MD_TOO_WEAK
    67: CertificateProblem.WEAK,
    68: CertificateProblem.WEAK,
}


def problems_of(errors: Sequence[tuple[int, int]]) -> tuple[CertificateProblem, ...]:
    """Return the problems that OpenSSL's (number, depth) pairs mean, each once, those of dates first.

    The depth of the leaf is 0.
    """
    found = set()
    for number, depth in errors:
        problem = _BY_NUMBER.get(number, CertificateProblem.OTHER)
        found.add(
            CertificateProblem.AUTHORITY_EXPIRED
            if problem is CertificateProblem.EXPIRED and depth
            else problem
        )
    return tuple(problem for problem in CertificateProblem if problem in found)


def parse_pin(text: str) -> Pin:
    """Parse ``sha256:AA:BB:..`` or ``sha1:..``, or the hex digits of either alone.  Raises BadPin."""
    match = _PIN.fullmatch(text.strip())
    if match is None:
        raise BadPin("a pin has the form sha256:AA:BB:.. or sha1:AA:BB:..")
    digest = match.group(2).replace(":", "").lower()
    algorithm = (match.group(1) or "").lower().replace("-", "")
    algorithm = algorithm or next((name for name, size in _LENGTHS.items() if size == len(digest)), "")
    if _LENGTHS.get(algorithm) != len(digest):
        raise BadPin("a sha256 pin has 64 hex digits, a sha1 pin 40")
    return Pin(algorithm, digest)
