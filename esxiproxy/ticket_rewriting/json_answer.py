"""JSON answers with a ticket: those of VI-JSON have the fields of SOAP, those of REST a URL alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from esxiproxy.core.console_tickets import AcquiredTicket
from esxiproxy.core.strict_json import strict_json
from esxiproxy.ticket_rewriting.public_address import PublicAddress
from esxiproxy.ticket_rewriting.ticket_fields import acquired_ticket, plain_algorithm, refused

_URL = re.compile(r"wss://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?/ticket/(.+)")
_TEXTS = ("ticket", "host", "url", "sslThumbprint", "sslCertificate")


def changed_vi_json(body: bytes, api_host: str, to: PublicAddress) -> tuple[bytes, AcquiredTicket]:
    """Return an answer of AcquireTicket with the proxy in place of the host, and the ticket in it."""
    answer = _object(body)
    fields = {name: _text(answer[name]) for name in _TEXTS if answer.get(name) is not None}
    if (port := answer.get("port")) is not None:
        if type(port) is not int:
            raise refused("its port is no port")
        fields["port"] = str(port)
    listed = answer.get("certThumbprintList")
    if listed is None:
        listed = []
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise refused("its list of thumbprints is none")
    prints = [(_text(each.get("hashAlgorithm", "")), _text(each.get("thumbprint", ""))) for each in listed]
    ticket = acquired_ticket(fields, prints, api_host)
    answer |= {"host": to.host, "port": to.port}
    new = {"url": to.url(ticket.ticket), "sslThumbprint": to.sha1, "sslCertificate": to.pem}
    answer |= {name: value for name, value in new.items() if name in fields}
    for each, (algorithm, text) in zip(listed, prints, strict=True):
        digest = to.digest(plain_algorithm(algorithm))
        if digest is None:
            raise refused("it has a thumbprint of an unknown algorithm")
        pairs = (digest[place : place + 2] for place in range(0, len(digest), 2))
        each["thumbprint"] = ":".join(pairs) if ":" in text else digest
    return _octets(answer), ticket


def changed_rest(body: bytes, to: PublicAddress) -> tuple[bytes, AcquiredTicket | None]:
    """Return an answer of the REST interface with the proxy in place of the host, and the ticket in it.

    A ticket for VMRC leads to vCenter itself and is not changed.  Its second value is None.
    """
    answer = _object(body)
    holder = answer["value"] if isinstance(answer.get("value"), dict) else answer
    url = _text(holder.get("ticket", ""))
    if url.startswith("vmrc://"):
        return body, None
    match = _URL.fullmatch(url)
    if match is None:
        raise refused("its ticket is no wss:// URL of a console")
    fields = {"host": match[1].strip("[]"), "port": match[2] or "", "ticket": match[3]}
    ticket = acquired_ticket(fields, (), "")
    holder["ticket"] = to.url(ticket.ticket)
    return _octets(answer), ticket


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = strict_json(body)
    except ValueError as error:
        raise refused(str(error)) from None
    if not isinstance(answer, dict):
        raise refused("it is no JSON object")
    return answer


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise refused("a value is no text")
    return value


def _octets(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode("ascii")
