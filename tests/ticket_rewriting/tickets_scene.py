"""Answers with tickets, and their way through a filter."""

from __future__ import annotations

import ssl

from esxiproxy.core.http.head import parse
from esxiproxy.core.http.request import Request
from esxiproxy.core.issued_ticket import SPACE, open_issued_ticket
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Upstream
from esxiproxy.core.sealing import key_of
from esxiproxy.core.thumbprint import Pin
from esxiproxy.sim.certificate import make
from esxiproxy.ticket_rewriting import soap_answer
from esxiproxy.ticket_rewriting.filters import AnswerKind, TicketFilter
from esxiproxy.ticket_rewriting.public_address import PublicAddress
from tests.support.outcome import result

TICKET = "52" * 8 + "-abc:def/+="
OURS, HOST = make(), make()
OUR_DER, HOST_DER = ssl.PEM_cert_to_DER_cert(OURS.pem), ssl.PEM_cert_to_DER_cert(HOST.pem)
HOST_PIN = Pin("sha256", HOST.sha256.replace(":", "").lower())
PROXY = PublicAddress.of("https://consoles.example.com:8443", OUR_DER)
VCENTER = Upstream("vcenter", "192.0.2.1", 443, True)
NOW = 1000.0
PEM = f"<sslCertificate>{HOST.pem}</sslCertificate>"
SHA256 = (
    f"<certThumbprintList><thumbprint>{HOST.sha256}</thumbprint><hashAlgorithm>sha256</hashAlgorithm>"
    "</certThumbprintList>"
)
SHA1 = f"<sslThumbprint>{HOST.sha1}</sslThumbprint>"
URL = f"<url>wss://192.0.2.10:443/ticket/{TICKET}</url>"
ADDRESS = "<host>192.0.2.10</host><port>443</port>"
CREATE = soap_answer.expat.ParserCreate


def envelope(inside: str, call: str = "AcquireTicket", before: str = "") -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{before}<soapenv:Envelope xmlns:soapenv="http://e/">\n'
        f'<soapenv:Body>\n<{call}Response xmlns="urn:vim25">'
        f"<returnval>{inside}</returnval></{call}Response>\n"
        "</soapenv:Body>\n</soapenv:Envelope>\n"
    ).encode()


def ticket(*parts: str, call: str = "AcquireTicket") -> bytes:
    name = f"<ticket>{TICKET}</ticket><cfgFile>/vmfs/a &amp; b/ü.vmx</cfgFile>"
    return envelope("".join((name, *parts)), call)


def passed(
    filters, body: bytes, kind=AnswerKind.SOAP, chunk: int = 0, fields=(), status=200, by=None
) -> bytes:
    """Return what a client gets; raise the error with which the answer is refused."""
    one = TicketFilter(kind, filters, request("POST", "/sdk"), by)
    if not one.takes(status, fields):
        return body
    for place in range(0, len(body), chunk or len(body) or 1):
        if not one.feed(body[place : place + (chunk or len(body))]):
            return body
    if not one.feed(b""):
        return body
    changed: bytes = result(one.change(body, VCENTER))
    return changed


def sealed(filters, text: str = TICKET):
    stored = result(filters._state.get(SPACE, key_of(text)))
    assert stored is not None and text not in stored
    return open_issued_ticket(stored, text, NOW)


def request(method: str, target: str, *fields: str) -> Request:
    lines = "\r\n".join((f"{method} {target} HTTP/1.1", "Host: h", *fields, "", ""))
    return Request("s", "one", PeerAddress("192.0.2.9", 1), True, parse(lines.encode()))
