"""The ticket of one console, with the host and the certificate that it is for."""

from __future__ import annotations

from dataclasses import dataclass, field

from esxiproxy.core.thumbprint import Pin


@dataclass(frozen=True, slots=True)
class ConsoleTicket:
    """A ticket, which opens one console once.

    ``certificate`` (DER) or ``pins`` identify the host.  Only the strongest that vSphere gave is set, and
    neither if it gave none.
    """

    ticket: str = field(repr=False)
    host: str
    port: int
    certificate: bytes | None = field(default=None, repr=False)
    pins: tuple[Pin, ...] = ()
