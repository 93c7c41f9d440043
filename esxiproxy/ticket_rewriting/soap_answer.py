"""SOAP answers with a ticket: found by their first bytes, and changed at the places of the values alone.

Each value is replaced at its place in the document, and all other bytes stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape

from esxiproxy.ticket_rewriting.public_address import PublicAddress
from esxiproxy.ticket_rewriting.ticket_fields import plain_algorithm, refused

MAX_BEGINNING = 4096
"""Bytes within which an answer has to name its call.  Any other one is passed on."""
MAX_DEPTH = 32
MAX_ELEMENTS = 256
RESPONSES = frozenset({"AcquireTicketResponse", "AcquireMksTicketResponse"})
_RETURNED = ("Envelope", "Body")
_FIELDS = frozenset({"ticket", "cfgFile", "host", "port", "url", "sslThumbprint", "sslCertificate"})
_THUMBPRINTS = "certThumbprintList"
_START_TAG = re.compile(rb"<[^<>\"']*+(?:\"[^\"]*+\"[^<>\"']*+|'[^']*+'[^<>\"']*+)*+>")
_ENCODING = re.compile(rb"(?:\xef\xbb\xbf)?<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")


class _Found(Exception):
    """Ends the parsing of the beginning, since the call is known."""


class Beginning:
    """The beginning of an answer.  ``has_ticket`` is None until it names its call."""

    def __init__(self) -> None:
        self.has_ticket: bool | None = None
        self._size = 0
        self._path: list[str] = []
        self._parser = _parser(self._start, self._end)

    @property
    def wanted(self) -> int:
        """The number of bytes that are still examined, if the call is not known."""
        return MAX_BEGINNING - self._size

    def feed(self, octets: bytes) -> None:
        """Look at the next bytes."""
        if self.has_ticket is not None:
            return
        taken = octets[: self.wanted]
        self._size += len(taken)
        self._parse(taken, False)
        if self._size >= MAX_BEGINNING:
            self.end()

    def end(self) -> None:
        """Decide at the end of the examined bytes: an answer that has not named its call has no ticket.

        The parser may have kept a start tag that it got in two pieces.
        """
        self._parse(b"", True)
        if self.has_ticket is None:
            self.has_ticket = False

    def _parse(self, octets: bytes, is_final: bool) -> None:
        if self.has_ticket is not None:
            return
        try:
            self._parser.Parse(octets, is_final)
        except _Found:
            pass
        except (expat.ExpatError, ValueError, LookupError):
            self.has_ticket = False

    def _start(self, name: str, _attributes: Any) -> None:
        self._path.append(_local(name))
        if len(self._path) == 3 and self._path[1] == "Body":
            self._decide(tuple(self._path[:2]) == _RETURNED and self._path[2] in RESPONSES)
        elif len(self._path) > MAX_DEPTH:
            self._decide(False)

    def _end(self, _name: str) -> None:
        self._path.pop()

    def _decide(self, has_ticket: bool) -> None:
        self.has_ticket = has_ticket
        raise _Found


@dataclass(slots=True)
class _Value:
    """A field with its text, and the place of the content in the document."""

    start: int
    prefix: str
    end: int = 0
    text: list[str] = field(default_factory=list)

    @property
    def value(self) -> str:
        return "".join(self.text)


class SoapTicket:
    """The ticket in a whole answer.  Creating one raises UpstreamInvalid for any other document."""

    def __init__(self, document: bytes) -> None:
        _check_encoding(document)
        self._document = document
        self._path: list[str] = []
        self._elements = 0
        self._responses = self._returned = 0
        self._values: dict[str, _Value] = {}
        self._prints: list[dict[str, _Value]] = []
        self._open: _Value | None = None
        self._parser = _parser(self._start, self._end)
        self._parser.CharacterDataHandler = self._text
        self._parser.buffer_text = True
        try:
            self._parser.Parse(document, True)
        except (expat.ExpatError, ValueError, LookupError):
            raise refused("it is no XML, or has a document type") from None
        if self._returned != 1 or self._responses != 1:
            raise refused("it has not exactly one ticket")

    @property
    def fields(self) -> Mapping[str, str]:
        """The texts of the fields by their names."""
        return {name: value.value for name, value in self._values.items()}

    @property
    def thumbprints(self) -> list[tuple[str, str]]:
        """Pairs of an algorithm and a thumbprint."""
        return [
            tuple(each[name].value if name in each else "" for name in ("hashAlgorithm", "thumbprint"))  # type: ignore[misc]
            for each in self._prints
        ]

    def changed(self, to: PublicAddress, ticket: str) -> bytes:
        """Return the document with the proxy in place of the host.  Raise UpstreamInvalid."""
        new = {
            "host": to.host,
            "port": str(to.port),
            "url": to.url(ticket),
            "sslThumbprint": to.sha1,
            "sslCertificate": to.pem,
        }
        changes = [self._missing(new)]
        changes += [
            (value.start, value.end, escape(new[name])) for name, value in self._values.items() if name in new
        ]
        for each in self._prints:
            algorithm = each["hashAlgorithm"].value if "hashAlgorithm" in each else ""
            digest = to.digest(plain_algorithm(algorithm))
            if digest is None:
                raise refused("it has a thumbprint of an unknown algorithm")
            if "thumbprint" in each:
                changes.append((each["thumbprint"].start, each["thumbprint"].end, _like(each, digest)))
        pieces, place = [], 0
        for start, end, text in sorted(changes):
            pieces += [self._document[place:start], text.encode("utf-8")]
            place = end
        return b"".join([*pieces, self._document[place:]])

    def _missing(self, new: Mapping[str, str]) -> tuple[int, int, str]:
        """Return the host and the port as elements, if the answer has none, and the place for them.

        Without them a client takes the host of the API and its default port.
        """
        before = self._values["cfgFile" if "cfgFile" in self._values else "ticket"]
        place = self._document.index(b">", before.end) + 1
        names = [f"{before.prefix}{name}" for name in ("host", "port") if name not in self._values]
        texts = [escape(new[name.removeprefix(before.prefix)]) for name in names]
        elements = (f"<{name}>{text}</{name}>" for name, text in zip(names, texts, strict=True))
        return place, place, "".join(elements)

    def _start(self, name: str, _attributes: Any) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS or len(self._path) >= MAX_DEPTH:
            raise refused(f"it has more than {MAX_ELEMENTS} elements, or more than {MAX_DEPTH} in each other")
        if self._open is not None:
            raise refused("a value has an element in it")
        self._path.append(_local(name))
        path = self._path
        if tuple(path[:2]) != _RETURNED:
            return
        if len(path) == 3:
            self._responses += 1
        elif len(path) == 4 and path[3] == "returnval" and path[2] in RESPONSES:
            self._returned += 1
        elif len(path) == 5 and path[4] == _THUMBPRINTS:
            self._prints.append({})
        elif len(path) == 5 and path[4] in _FIELDS:
            self._values[path[4]] = self._value(name, self._values, path[4])
        elif len(path) == 6 and path[4] == _THUMBPRINTS and path[5] in ("thumbprint", "hashAlgorithm"):
            self._prints[-1][path[5]] = self._value(name, self._prints[-1], path[5])

    def _value(self, name: str, others: Mapping[str, _Value], local: str) -> _Value:
        if local in others:
            raise refused("it has a value twice")
        place = self._parser.CurrentByteIndex
        tag = _START_TAG.match(self._document, place)
        if tag is None or tag[0].endswith(b"/>"):
            raise refused("it has an empty value")
        self._open = _Value(tag.end(), name.removesuffix(local))
        return self._open

    def _end(self, _name: str) -> None:
        self._path.pop()
        if self._open is not None:
            self._open.end = self._parser.CurrentByteIndex
            self._open = None

    def _text(self, text: str) -> None:
        if self._open is not None:
            self._open.text.append(text)


def _check_encoding(document: bytes) -> None:
    """Raise UpstreamInvalid for a document that is not in UTF-8, in which places of values are not searched.

    expat takes a document for UTF-16 by its first bytes, with or without a byte order mark.
    """
    declared = _ENCODING.match(document)
    is_other = declared is not None and declared[1].lower() not in (b"utf-8", b"us-ascii")
    try:
        document.decode("utf-8")
    except UnicodeDecodeError:
        is_other = True
    if is_other or b"\0" in document:
        raise refused("its encoding is not UTF-8")


def _like(each: Mapping[str, _Value], digest: str) -> str:
    """Return a thumbprint in the form of the one that it replaces: with colons or without."""
    if ":" not in each["thumbprint"].value:
        return digest
    return ":".join(digest[place : place + 2] for place in range(0, len(digest), 2))


def _parser(start: Any, end: Any) -> expat.XMLParserType:
    """Return a parser that refuses document types, which could define entities."""
    parser = expat.ParserCreate()
    if (set_deferral := getattr(parser, "SetReparseDeferralEnabled", None)) is not None:
        set_deferral(False)  # expat 2.6 and newer would keep a start tag in pieces for later calls
    parser.StartElementHandler = start
    parser.EndElementHandler = end

    def refuse(*_arguments: Any) -> None:
        raise ValueError("a document type")

    parser.StartDoctypeDeclHandler = refuse
    return parser


def _local(name: str) -> str:
    return name.rpartition(":")[2]
