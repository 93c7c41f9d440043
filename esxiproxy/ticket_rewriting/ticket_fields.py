"""The fields of a ticket in an answer, read into the host that it leads to.

No error has a part of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from esxiproxy.core.console_tickets import AcquiredTicket
from esxiproxy.core.errors import UpstreamInvalid
from esxiproxy.core.host_name import plain_host
from esxiproxy.core.thumbprint import Pin, pin_of

MAX_CERTIFICATE = 8192
"""Maximum length of the certificate in a ticket, in PEM."""
_TICKET = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/-]{16,1024}")
_DIGITS = {"sha1": 40, "sha256": 64}
_WEBSOCKET_PORT = 443
_AUTHD_PORT = 902
"""The port of the older protocol of consoles.  The proxy opens the console of such a ticket by WebSocket."""

Thumbprints = Sequence[tuple[str, str]]
"""Pairs of the algorithm, empty for the default, and the thumbprint."""


def refused(text: str) -> UpstreamInvalid:
    """Return the error for an answer that cannot be changed, whose text the client may see."""
    error = UpstreamInvalid(f"the answer with a console ticket cannot be changed for clients: {text}")
    error.hide_detail = False
    return error


def acquired_ticket(fields: Mapping[str, str], thumbprints: Thumbprints, api_host: str) -> AcquiredTicket:
    """Return the ticket in these fields with the strongest identity of its host.  Raise UpstreamInvalid.

    A standalone ESXi host leaves its name out: it is the host of the API.
    """
    pins = tuple(_of_certificate(fields.get("sslCertificate", ""))) or tuple(_sha256(thumbprints))
    if thumbprints and not pins:
        raise refused("it lists thumbprints, but none by SHA-256, and has no certificate")
    pins = pins or tuple(_sha1(fields.get("sslThumbprint", "")))
    port = _port(fields.get("port", ""))
    return AcquiredTicket(
        checked_ticket(fields.get("ticket", "")),
        _host(fields.get("host", "") or api_host),
        _WEBSOCKET_PORT if port == _AUTHD_PORT else port,
        pins=pins,
    )


def plain_algorithm(text: str) -> str:
    """Return the name of a thumbprint's algorithm as it is compared.  The default is SHA-256."""
    return text.strip().lower() or "sha256"


def checked_ticket(ticket: str) -> str:
    """Return a ticket that is valid in a path.  Raise UpstreamInvalid."""
    if not _TICKET.fullmatch(ticket):
        raise refused("it has no ticket of 16 characters or more that can stand in a path")
    return ticket


def _host(text: str) -> str:
    try:
        return plain_host(text.strip())
    except ValueError as error:
        raise refused(str(error)) from None


def _port(text: str) -> int:
    text = text.strip() or str(_WEBSOCKET_PORT)
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise refused("its port is no port")
    return int(text)


def _of_certificate(text: str) -> Iterator[Pin]:
    """Yield the thumbprint of a certificate, which identifies it as well and is small."""
    if len(text) > MAX_CERTIFICATE:
        raise refused(f"its certificate has more than {MAX_CERTIFICATE} characters")
    if not text.strip():
        return
    try:
        der = load_pem_x509_certificate(text.strip().encode("ascii")).public_bytes(Encoding.DER)
    except ValueError:  # a text that is not ASCII among them
        raise refused("its certificate cannot be read") from None
    yield pin_of(der, "sha256")


def _sha256(thumbprints: Thumbprints) -> Iterator[Pin]:
    for algorithm, text in thumbprints:
        if plain_algorithm(algorithm) == "sha256":
            yield _pin("sha256", text)


def _sha1(text: str) -> Iterator[Pin]:
    if text:
        yield _pin("sha1", text)


def _pin(algorithm: str, text: str) -> Pin:
    digest = text.replace(":", "").strip().lower()
    if len(digest) != _DIGITS[algorithm] or not re.fullmatch("[0-9a-f]+", digest):
        raise refused(f"its {algorithm} thumbprint is none")
    return Pin(algorithm, digest)
