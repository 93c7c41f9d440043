"""Tickets in answers of vCenter name the proxy, and open at the proxy."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from ipaddress import ip_network

import pytest
from twisted.internet.task import Clock

from esxiproxy.core.errors import (
    LimitReached,
    LinkExpired,
    LinkInvalid,
    SessionError,
    UpstreamDenied,
    UpstreamInvalid,
)
from esxiproxy.core.issued_ticket import LIFETIME, SPACE, open_issued_ticket
from esxiproxy.core.networks import Networks
from esxiproxy.core.routing import Principal
from esxiproxy.core.sealing import key_of
from esxiproxy.core.thumbprint import Pin
from esxiproxy.state.memory import Memory, MemoryState
from esxiproxy.ticket_rewriting import soap_answer
from esxiproxy.ticket_rewriting.filters import BURST, MAX_ANSWER, AnswerKind, TicketFilter
from esxiproxy.ticket_rewriting.public_address import PublicAddress
from esxiproxy.ticket_rewriting.soap_answer import MAX_BEGINNING
from tests.support.outcome import result
from tests.ticket_rewriting.tickets_scene import (
    ADDRESS,
    CREATE,
    HOST,
    HOST_DER,
    HOST_PIN,
    NOW,
    OUR_DER,
    OURS,
    PEM,
    PROXY,
    SHA1,
    SHA256,
    TICKET,
    URL,
    envelope,
    passed,
    request,
    sealed,
    ticket,
)


@pytest.mark.parametrize("chunk", [0, 1])
def test_a_soap_ticket_names_the_proxy_and_nothing_else_changes(filters, chunk):
    before = ticket(ADDRESS, SHA1, SHA256, PEM, URL)
    after = passed(filters, before, chunk=chunk).decode()
    digest = hashlib.sha256(OUR_DER).hexdigest().upper()
    expected = (
        before.decode()
        .replace(ADDRESS, "<host>consoles.example.com</host><port>8443</port>")
        .replace(HOST.sha1, OURS.sha1)
        .replace(HOST.sha256, ":".join(digest[i : i + 2] for i in range(0, 64, 2)))
        .replace("192.0.2.10:443", "consoles.example.com:8443")
        .replace(HOST.pem, PROXY.pem)
    )
    assert after == expected
    issued = sealed(filters)
    assert (issued.ticket.host, issued.ticket.port) == ("192.0.2.10", 443)
    assert (issued.ticket.certificate, issued.ticket.pins) == (None, (HOST_PIN,))
    assert issued.rule == Networks(allow=(ip_network("192.0.2.0/24"),)) and issued.expires == NOW + LIFETIME
    assert TICKET not in repr(issued) and (issued.listener, issued.owner) == ("one", "")
    for name, owner in (("anonymous", ""), ("alice", "sso/alice")):
        passed(filters, before, by=Principal(name, authenticator="authenticator sso"))
        assert sealed(filters).owner == owner


def test_the_strongest_identity_and_the_missing_parts(filters):
    passed(filters, ticket(ADDRESS, SHA1, SHA256))
    assert sealed(filters).ticket.pins == (Pin("sha256", HOST.sha256.replace(":", "").lower()),)
    passed(filters, ticket(ADDRESS, SHA1))
    assert sealed(filters).ticket.pins == (Pin("sha1", HOST.sha1.replace(":", "").lower()),)
    # An older ticket for authd: its console is opened by WebSocket.
    old = passed(filters, ticket("<host>192.0.2.11</host><port>902</port>", SHA1, call="AcquireMksTicket"))
    assert b"<host>consoles.example.com</host><port>8443</port>" in old and OURS.sha1.encode() in old
    assert (sealed(filters).ticket.host, sealed(filters).ticket.port) == ("192.0.2.11", 443)
    # A standalone host leaves out its name: it is the host of the API.
    assert b".vmx</cfgFile><host>consoles.example.com</host><port>8443</port></returnval>" in passed(
        filters, ticket()
    )
    assert sealed(filters).ticket.host == "192.0.2.1"
    assert b"</cfgFile><host>consoles.example.com</host><port>8443</port></ret" in passed(
        filters, ticket("<port>443</port>")
    )


def test_an_identity_in_a_list_of_thumbprints_is_not_weakened(filters):
    for name in (" sha256 ", "SHA256\n", " "):
        listed = SHA256.replace(">sha256<", f">{name}<")
        assert OURS.sha256.encode() in passed(filters, ticket(ADDRESS, SHA1, listed))
        assert sealed(filters).ticket.pins == (HOST_PIN,)
        answer = {"ticket": TICKET, "sslThumbprint": HOST.sha1, "host": "192.0.2.10"}
        answer["certThumbprintList"] = [{"thumbprint": HOST.sha256, "hashAlgorithm": name}]
        passed(filters, json.dumps(answer).encode(), AnswerKind.VI_JSON)
        assert sealed(filters).ticket.pins == (HOST_PIN,)
    longer = hashlib.sha512(HOST_DER).hexdigest()
    listed = SHA256.replace(HOST.sha256, longer).replace(">sha256<", ">sha512<")
    passed(filters, ticket(ADDRESS, listed, PEM))
    assert sealed(filters).ticket.pins == (HOST_PIN,)
    for parts in ((), (SHA1,)):
        with pytest.raises(UpstreamInvalid, match="none by SHA-256"):
            passed(filters, ticket(ADDRESS, listed, *parts))


PLAIN = {
    "another call": envelope("<x/>", "RetrieveContent"),
    "a page": b"<html><body>maintenance<br></body></html>",
    "no XML": b"AcquireTicketResponse " * 9000,
    "nothing": b"",
    "a document type": b'<!DOCTYPE a [<!ENTITY b "c">]>' + ticket(ADDRESS),
    "too deep": b"<a>" * 10_000,
    "10,000 levels in a body": b"<Envelope><Body>" + b"<a>" * 10_000,
    "a long beginning": envelope("", before=" " * MAX_BEGINNING),
    "an unfinished beginning": b"<Envelope><Body>",
}


@pytest.mark.parametrize("chunk", [0, 1])
@pytest.mark.parametrize("name", PLAIN)
def test_answers_without_a_ticket_are_passed_on(filters, name, chunk):
    assert passed(filters, PLAIN[name], chunk=chunk) == PLAIN[name]
    assert passed(filters, ticket(ADDRESS), status=500, chunk=chunk) == ticket(ADDRESS), "a fault"


def _in(body: bytes, encoding: str) -> bytes:
    text = body.decode()
    return text.removeprefix('<?xml version="1.0" encoding="UTF-8"?>').strip().encode(encoding)


GZIP = ((b"Content-Encoding", b"gzip"),)


@pytest.mark.parametrize("chunk", [0, 1])
def test_a_compressed_answer_is_refused_only_if_it_has_a_ticket(filters, chunk):
    other = envelope("<x>" + "y" * 5000 + "</x>", "RetrieveContent")
    for body in (gzip.compress(other), gzip.compress(b"<a/>"), gzip.compress(b"\0" * 10_000_000)[:9000]):
        assert passed(filters, body, chunk=chunk, fields=GZIP) == body
    deflated = zlib.compress(other)
    assert passed(filters, deflated, chunk=chunk, fields=((b"content-encoding", b"Deflate"),)) == deflated
    body = gzip.compress(ticket(ADDRESS))
    endless_name = b"\x1f\x8b\x08\x08" + b"\1" * MAX_ANSWER * 2
    for wrong, fields, text in (
        (body, GZIP, "although the proxy has asked"),
        (zlib.compress(ticket(ADDRESS)), ((b"Content-Encoding", b"deflate"),), "although the proxy"),
        (gzip.compress(other), ((b"Content-Encoding", b"br"),), "although the proxy"),
        (gzip.compress(other), ((b"Content-Encoding", b"gzip, gzip"),), "although the proxy"),
        (gzip.compress(other), (*GZIP, (b"Content-Range", b"bytes 0-1/2")), "although the proxy"),
        (gzip.compress(b" ") + body, GZIP, "more follows its end"),
        (b"<a/>" * 9, GZIP, "cannot be read"),
        (endless_name, GZIP, "more than 65536 bytes"),
    ):
        with pytest.raises(UpstreamInvalid, match=text):
            passed(filters, wrong, chunk=chunk * 500, fields=fields)


class Deferring:
    """A parser that keeps what it gets until the end, as expat 2.6 may keep a start tag in pieces."""

    def __init__(self):
        self.__dict__.update(parser=CREATE(), kept=b"", defers=True)

    def __getattr__(self, name):
        return getattr(self.parser, name)

    def __setattr__(self, name, value):
        setattr(self.parser, name, value)

    def Parse(self, octets, is_final):
        kept = self.kept + octets
        defers = self.defers and not is_final
        self.__dict__["kept"] = kept if defers else b""
        return 1 if defers else self.parser.Parse(kept, is_final)


class Obedient(Deferring):
    """A parser that can be told to defer nothing."""

    def SetReparseDeferralEnabled(self, enabled):
        self.__dict__["defers"] = enabled


@pytest.mark.parametrize("parser", [Deferring, Obedient])
def test_a_parser_that_defers_start_tags_hides_no_ticket(filters, monkeypatch, parser):
    monkeypatch.setattr(soap_answer.expat, "ParserCreate", parser)
    for padding in (0, MAX_BEGINNING):
        answer = ticket(ADDRESS, f"<x>{'y' * padding}</x>")
        assert b"<host>consoles.example.com</host>" in passed(filters, answer, chunk=150)
    assert passed(filters, PLAIN["another call"], chunk=7) == PLAIN["another call"]
    one = TicketFilter(AnswerKind.SOAP, filters, request("POST", "/sdk"), None)
    assert one.feed(PLAIN["another call"]) is (parser is Deferring), "it is passed on at once"


HOSTILE = {
    "compressed": (gzip.compress(ticket(ADDRESS)), ((b"Content-Encoding", b"gzip"),), "is compressed"),
    "a part": (ticket(ADDRESS), ((b"content-range", b"bytes 0-1/2"),), "is compressed"),
    "too large": (ticket(ADDRESS, "<x>" + "y" * MAX_ANSWER + "</x>"), (), "more than 65536 bytes"),
    "cut off": (ticket(ADDRESS)[:-40], (), "no XML"),
    "an entity": (ticket(ADDRESS, "<x>&b;</x>"), (), "no XML"),
    "a document type behind": (ticket(ADDRESS) + b"<!DOCTYPE a>", (), "no XML"),
    "deep": (ticket(ADDRESS, "<a>" * 5000, "</a>" * 5000), (), "elements"),
    "many": (ticket(ADDRESS, "<a/>" * 5000), (), "elements"),
    "in Latin-1": (ticket(ADDRESS).replace(b"UTF-8", b"latin-1"), (), "not UTF-8"),
    "in UTF-16": (_in(ticket(ADDRESS, PEM, URL), "utf-16"), (), "not UTF-8"),
    "in UTF-16 BE": (b"\xfe\xff" + _in(ticket(ADDRESS, PEM, URL), "utf-16-be"), (), "not UTF-8"),
    "in UTF-16 LE without a mark": (_in(ticket(ADDRESS, PEM, URL), "utf-16-le"), (), "not UTF-8"),
    "no UTF-8": (ticket(ADDRESS).replace("ü".encode(), b"\xfc"), (), "not UTF-8"),
    "two hosts": (ticket(ADDRESS, "<host>192.0.2.9</host>"), (), "a value twice"),
    "two tickets": (
        ticket(ADDRESS).replace(b"</returnval>", b"</returnval><returnval/>"),
        (),
        "exactly one ticket",
    ),
    "an element in a value": (ticket("<host><b/></host>"), (), "an element in it"),
    "an empty value": (ticket("<host/>"), (), "an empty value"),
    "no ticket": (envelope(ADDRESS), (), "no ticket"),
    "a short ticket": (envelope("<ticket>abc</ticket>"), (), "no ticket"),
    "a line in a ticket": (envelope(f"<ticket>{'a' * 20}\nb</ticket>"), (), "no ticket"),
    "no host name": (ticket("<host>a b</host>"), (), "host"),
    "no port": (ticket("<host>192.0.2.10</host><port>99999</port>"), (), "no port"),
    "no thumbprint": (ticket(ADDRESS, "<sslThumbprint>AA</sslThumbprint>"), (), "sha1 thumbprint"),
    "a large certificate": (
        ticket(ADDRESS, f"<sslCertificate>{'A' * 8193}</sslCertificate>"),
        (),
        "certificate has more than 8192",
    ),
    "no certificate": (ticket(ADDRESS, "<sslCertificate>AA</sslCertificate>"), (), "certificate"),
    "another algorithm": (ticket(ADDRESS, PEM, SHA256.replace(">sha256<", ">md9<")), (), "unknown algorithm"),
}


@pytest.mark.parametrize("chunk", [0, 1])
@pytest.mark.parametrize("name", HOSTILE)
def test_an_answer_with_a_ticket_that_cannot_be_changed_is_refused(filters, name, chunk):
    body, fields, text = HOSTILE[name]
    with pytest.raises(UpstreamInvalid, match=text) as caught:
        passed(filters, body, chunk=chunk, fields=fields)
    assert TICKET not in str(caught.value) and "cannot be changed" in caught.value.public_message
    assert result(filters._state.get(SPACE, key_of(TICKET))) is None


def test_the_tickets_of_a_client_are_few_and_small(filters):
    padded = PEM.replace("-----END", "A" * 4000 + "-----END")
    with pytest.raises(UpstreamInvalid, match="cannot be read"):
        passed(filters, ticket(ADDRESS, padded))
    passed(filters, ticket(ADDRESS, PEM))
    assert len(result(filters._state.get(SPACE, key_of(TICKET)))) < 500, "a thumbprint in place of it"
    filters._state = MemoryState(Clock(), Memory(lambda: NOW))
    alice, bob = (Principal(name, authenticator="authenticator sso") for name in ("alice", "bob"))
    for who in (None, alice):
        for number in range(BURST):
            passed(filters, ticket(ADDRESS).replace(TICKET.encode(), b"%032d" % number), by=who)
        with pytest.raises(LimitReached, match="2 console tickets a second"):
            passed(filters, ticket(ADDRESS), by=who)
        assert result(filters._state.get(SPACE, key_of(TICKET))) is None
    with pytest.raises(LimitReached):
        passed(filters, ticket(ADDRESS), by=Principal("anonymous"))
    filters._state._clock.advance(1)
    assert passed(filters, ticket(ADDRESS), by=alice) and passed(filters, ticket(ADDRESS), by=bob)


def test_a_ticket_for_a_host_outside_of_the_networks_is_refused(filters):
    for host in ("198.51.100.1", "127.0.0.1", "2001:db8::1", "64:ff9b::c633:6401"):
        with pytest.raises(UpstreamDenied, match="not in tickets_allow"):
            passed(filters, ticket(f"<host>{host}</host>", SHA1))
        assert result(filters._state.get(SPACE, key_of(TICKET))) is None
    passed(filters, ticket("<host>esx-01.lab.example</host>"))
    assert sealed(filters).ticket.host == "esx-01.lab.example", "its addresses are checked when it is dialled"


def test_tickets_of_vi_json(filters):
    answer = {
        "_typeName": "VirtualMachineTicket",
        "ticket": TICKET,
        "cfgFile": "/vmfs/ü",
        "host": "192.0.2.10",
        "port": 443,
        "sslThumbprint": HOST.sha1,
        "certThumbprintList": [{"thumbprint": HOST.sha256, "hashAlgorithm": "sha256"}],
        "url": f"wss://192.0.2.10:443/ticket/{TICKET}",
    }
    changed = json.loads(passed(filters, json.dumps(answer).encode(), AnswerKind.VI_JSON, 1))
    assert changed == answer | {
        "host": "consoles.example.com",
        "port": 8443,
        "sslThumbprint": OURS.sha1,
        "certThumbprintList": [{"thumbprint": OURS.sha256, "hashAlgorithm": "sha256"}],
        "url": f"wss://consoles.example.com:8443/ticket/{TICKET}",
    }
    assert sealed(filters).ticket.pins[0].algorithm == "sha256"
    for wrong in (
        b"[" * 10_000,
        b"[]",
        b"<html>",
        b'{"ticket":"a","ticket":"b"}',
        json.dumps(answer | {"port": "443"}).encode(),
        json.dumps(answer | {"host": 7}).encode(),
        json.dumps(answer | {"certThumbprintList": {}}).encode(),
        json.dumps(answer | {"x": "y" * MAX_ANSWER}).encode(),
    ):
        with pytest.raises(UpstreamInvalid):
            passed(filters, wrong, AnswerKind.VI_JSON)


def test_tickets_of_rest(filters):
    url = f"wss://192.0.2.10:443/ticket/{TICKET}"
    ours = f"wss://consoles.example.com:8443/ticket/{TICKET}"
    for form in ({"ticket": url}, {"value": {"ticket": url}}):
        changed = passed(filters, json.dumps(form).encode(), AnswerKind.REST, status=201)
        assert json.loads(changed) == json.loads(json.dumps(form).replace(url, ours))
        assert (sealed(filters).ticket.host, sealed(filters).ticket.pins) == ("192.0.2.10", ())
    vmrc = b'{"ticket": "vmrc://clone:cst-VCT-1@vcenter.example.com:443/?moid=vm-1"}'
    assert passed(filters, vmrc, AnswerKind.REST) == vmrc, "it leads to vCenter, through the proxy"
    for wrong in (b'{"ticket": "https://192.0.2.10/x"}', b"{}", b'{"ticket": "wss://a@b:443/ticket/c"}'):
        with pytest.raises(UpstreamInvalid):
            passed(filters, wrong, AnswerKind.REST)


def test_a_sealed_ticket_opens_with_itself_until_it_expires(filters):
    passed(filters, ticket(ADDRESS, SHA1))
    stored = result(filters._state.get(SPACE, key_of(TICKET)))
    assert "192.0.2.10" not in stored
    for text, now, error in ((TICKET + "x", NOW, LinkInvalid), (TICKET, NOW + LIFETIME, LinkExpired)):
        with pytest.raises(error):
            open_issued_ticket(stored, text, now)


def test_an_answer_is_refused_when_the_state_is_away(filters):
    class Away:
        async def take(self, *_arguments):
            raise SessionError("away")

    filters._state = Away()
    with pytest.raises(SessionError, match="away"):
        passed(filters, ticket(ADDRESS, SHA1))


def test_public_addresses():
    for url, host, port in (
        ("https://c.example.com", "c.example.com", 443),
        ("https://[2001:db8::1]:8443", "2001:db8::1", 8443),
        ("https://[2001:db8::1]", "2001:db8::1", 443),
        ("https://192.0.2.7:82", "192.0.2.7", 82),
    ):
        address = PublicAddress.of(url, OUR_DER)
        assert (address.host, address.port) == (host, port)
        assert address.url("t").startswith("wss://" + url.removeprefix("https://").removesuffix(":443"))
