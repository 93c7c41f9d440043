"""The three kinds of listeners that are measured, and their upstreams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.certificates import Certificate

Key = tuple[str, str]
"""The key of a listener: the name of its mode, and the variant of its TLS."""
WARM, COLD, TICKETS, RSA = VARIANTS = ("wss", "cold", "tickets", "rsa")
"""The variants of TLS, by their upstreams.

`wss` has TLS 1.3, and `cold` is the same without session resumption.  `tickets` has TLS 1.2, in which a
resumed session costs little.  `rsa` is the same with RSA certificates, the listener's too.
"""


@dataclass(frozen=True, slots=True)
class Mode:
    """One kind of listener.  The name of a mode stands for its HTTP too: ws-wss is http to https."""

    name: str
    title: str
    tls_down: bool
    tls_up: bool

    def upstream(self, variant: str = WARM, raw: bool = False) -> str:
        """Return the name of the upstream's port; a raw one is for websockify."""
        if raw:
            return "raws" if self.tls_up else "raw"
        return variant if self.tls_up else "ws"

    def variants(self) -> tuple[str, ...]:
        """Return the variants that differ in this mode."""
        if not self.tls_up:
            return (WARM,)
        return VARIANTS if self.tls_down else tuple(variant for variant in VARIANTS if variant != RSA)


MODES = {
    mode.name: mode
    for mode in (
        Mode("ws-ws", "ws → ws", False, False),
        Mode("ws-wss", "ws → wss", False, True),
        Mode("wss-wss", "wss → wss", True, True),
    )
}

LISTENERS = [(mode, variant) for mode in MODES.values() for variant in mode.variants()]
"""All listeners of each proxy."""


@dataclass(frozen=True, slots=True)
class Upstreams:
    """The upstream's ports by name, its certificates and the listeners' certificates: ECDSA and RSA."""

    ports: Mapping[str, int]
    certificate: Certificate
    own: Certificate
    rsa_certificate: Certificate
    rsa_own: Certificate

    def of_listener(self, variant: str) -> Certificate:
        """Return the certificate that the listeners of a variant show."""
        return self.rsa_own if variant == RSA else self.own

    def of_upstream(self, variant: str) -> Certificate:
        """Return the certificate of a variant's upstream."""
        return self.rsa_certificate if variant == RSA else self.certificate
