"""Certificate thumbprints in the form of vSphere, of ``openssl x509 -fingerprint`` and of the key ``pin``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


def pin_of(der: bytes, algorithm: str) -> Pin:
    """Return the pin that matches this certificate (DER), for the algorithm ``sha1`` or ``sha256``."""
    # Older vSphere versions give SHA-1 thumbprints only.
    return Pin(algorithm, hashlib.new(algorithm, der, usedforsecurity=False).hexdigest())


def thumbprint(der: bytes, algorithm: str) -> str:
    """Return the thumbprint of a certificate (DER) as ``AA:BB:..``."""
    return str(pin_of(der, algorithm)).partition(":")[2]


def pinned(der: bytes, pins: Iterable[Pin]) -> bool:
    """Return whether one of the pins matches this certificate (DER).

    Letter case and colons do not matter.
    """
    # No constant-time comparison: both sides are public.
    return any(pin_of(der, pin.algorithm.lower()).digest == _bare(pin.digest) for pin in pins)


def strongest_pins(pins: Iterable[Pin]) -> tuple[Pin, ...]:
    """Return the SHA-256 pins, or all pins if there is none of them."""
    given = tuple(pins)
    return tuple(pin for pin in given if pin.algorithm.lower() == "sha256") or given


def _bare(digest: str) -> str:
    return digest.replace(":", "").lower()


@dataclass(frozen=True, slots=True)
class Pin:
    """The thumbprint of a leaf certificate.  ``digest`` is in lower-case hex without colons."""

    algorithm: str
    digest: str

    def __str__(self) -> str:
        pairs = (self.digest[i : i + 2] for i in range(0, len(self.digest), 2))
        return f"{self.algorithm}:{':'.join(pairs).upper()}"
