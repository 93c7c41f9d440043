"""Tickets that a host has issued to a client of the proxy: where each leads, sealed in the state.

Only the ticket itself opens its value, so that a database that is read opens no console.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from esxiproxy.core.console_tickets import AcquiredTicket
from esxiproxy.core.errors import LinkExpired, LinkInvalid
from esxiproxy.core.networks import Network, Networks
from esxiproxy.core.sealing import key_of, seal, unseal
from esxiproxy.core.thumbprint import Pin

SPACE = "issued_tickets"
"""The space of the state with the sealed tickets, by the digests of the tickets."""
LIFETIME = 1800.0
"""Seconds for which a ticket leads to its host.  vSphere's tickets are valid for 30 minutes at most."""
PATH = b"/ticket/"
"""The path in front of a ticket."""
_LABEL = "esxiproxy issued ticket"


@dataclass(frozen=True, slots=True)
class IssuedTicket:
    """A ticket with its host, the networks in which the host has to be, and the time of its expiry.

    ``listener`` is the name of the listener that it was asked for at.  ``owner`` is the principal that has
    asked for it, and empty for a client that was not identified.
    """

    ticket: AcquiredTicket
    networks: tuple[Network, ...]
    expires: float
    listener: str
    owner: str = ""

    @property
    def key(self) -> str:
        """The key of the value in the state."""
        return key_of(self.ticket.ticket)

    @property
    def rule(self) -> Networks:
        """The rule for the addresses of the host."""
        return Networks(allow=self.networks)

    def sealed(self) -> str:
        """Return the value for the state, which only the ticket opens."""
        ticket = self.ticket
        certificate = None if ticket.certificate is None else b64encode(ticket.certificate).decode("ascii")
        content = {
            "host": ticket.host,
            "port": ticket.port,
            "certificate": certificate,
            "pins": [[pin.algorithm, pin.digest] for pin in ticket.pins],
            "networks": [str(network) for network in self.networks],
            "expires": float(self.expires),
            "listener": self.listener,
            "owner": self.owner,
        }
        return seal(json.dumps(content), ticket.ticket, _LABEL)


def open_issued_ticket(stored: str, ticket: str, now: float) -> IssuedTicket:
    """Return the content of a stored value.  Raise LinkInvalid if it is not that of this ticket."""
    try:
        content: Mapping[str, Any] = json.loads(unseal(stored, ticket, _LABEL))
        certificate = content["certificate"]
        issued = IssuedTicket(
            AcquiredTicket(
                ticket,
                content["host"],
                content["port"],
                None if certificate is None else b64decode(certificate),
                tuple(Pin(*pin) for pin in content["pins"]),
            ),
            tuple(ip_network(network) for network in content["networks"]),
            content["expires"],
            content["listener"],
            content["owner"],
        )
    except (ValueError, KeyError, TypeError):
        raise LinkInvalid("the stored value is not that of the ticket") from None
    if now >= issued.expires:
        raise LinkExpired("the ticket has expired")
    return issued
