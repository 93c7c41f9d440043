"""Thumbprints: a certificate's digest, as vSphere, ``openssl x509 -fingerprint`` and our pins have it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


def pin_of(der: bytes, algorithm: str) -> Pin:
    """The pin that this certificate (DER, the whole of it) would match; ``sha1`` or ``sha256``."""
    # SHA-1 is what older vSphere versions hand out: there is no second thumbprint to fall back on.
    return Pin(algorithm, hashlib.new(algorithm, der, usedforsecurity=False).hexdigest())


def thumbprint(der: bytes, algorithm: str) -> str:
    """``AA:BB:..``, as vSphere writes it."""
    return str(pin_of(der, algorithm)).partition(":")[2]


def pinned(der: bytes, pins: Iterable[Pin]) -> bool:
    """Whether one of the pins is this certificate's; letter case and colons do not count."""
    # No constant-time comparison: both sides are public.
    return any(pin_of(der, pin.algorithm.lower()).digest == _bare(pin.digest) for pin in pins)


def _bare(digest: str) -> str:
    return digest.replace(":", "").lower()


@dataclass(frozen=True, slots=True)
class Pin:
    """The thumbprint of a leaf certificate; ``digest`` in lower-case hex without colons."""

    algorithm: str
    digest: str

    def __str__(self) -> str:
        pairs = (self.digest[i : i + 2] for i in range(0, len(self.digest), 2))
        return f"{self.algorithm}:{':'.join(pairs).upper()}"
