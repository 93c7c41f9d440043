"""The filters of tickets for the listeners of a configuration."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import Encoding

from esxiproxy.core.config.model import Listener
from esxiproxy.interfaces import IState
from esxiproxy.net.tls.pem import read_certificates
from esxiproxy.ticket_rewriting.filters import TicketFilters
from esxiproxy.ticket_rewriting.public_address import PublicAddress


def ticket_filters(listener: Listener, state: IState) -> TicketFilters | None:
    """Return the filters of a listener, or None if it does not change tickets.

    Raises TLSFileError if its certificate cannot be read.
    """
    rule = listener.tickets
    if rule is None:
        return None
    certificate = read_certificates(rule.certificate)[0].public_bytes(Encoding.DER)
    return TicketFilters(PublicAddress.of(rule.url, certificate), rule.networks, state)
