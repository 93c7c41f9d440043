"""SOAP on the side of a vCenter: values to XML, and a request's XML to a call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

NAMESPACE: Final = "urn:vim25"
CONTENT_TYPE: Final = "text/xml; charset=utf-8"
MAX_REQUEST: Final = 1 << 20
OLDEST: Final[tuple[int, ...]] = (2, 5)
"""The version of a request that names none."""

_XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
_ENVELOPE: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<soapenv:Envelope xmlns:soapenc="http://schemas.xmlsoap.org/soap/encoding/"'
    ' xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"'
    ' xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
    f' xmlns:xsi="{_XSI}">\n<soapenv:Body>\n%s\n</soapenv:Body>\n</soapenv:Envelope>'
)
_ACTION: Final = re.compile(r'"?urn:vim25(?:/([0-9]+(?:\.[0-9]+)*))?"?')
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Version: TypeAlias = tuple[int, ...]


class BadSoap(ValueError):
    """Raised for a request that is no SOAP call."""


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """The reference of a managed object."""

    type: str
    moid: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A text with a type of vSphere's own, such as a value of an enumeration."""

    type: str
    text: str


@dataclass(frozen=True, slots=True)
class Structure:
    """A data object: its type and its fields in their order."""

    type: str
    fields: tuple[tuple[str, Value], ...] = ()

    def field(self, name: str) -> Value:
        """Return a field's value, or None if it is not set."""
        return next((value for field, value in self.fields if field == name), None)


@dataclass(frozen=True, slots=True)
class Several:
    """Values of one type: a repeated element as a field, an ArrayOf type as a property.

    With `typed`, each element names its type.
    """

    type: str
    values: tuple[Value, ...]
    typed: bool = False


@dataclass(frozen=True, slots=True)
class Typed:
    """A value whose element names its type, because the field is declared with a wider type."""

    value: Value


@dataclass(frozen=True, slots=True)
class Since:
    """A field that the interface has only from this version on."""

    version: Version
    value: Value


Value: TypeAlias = str | bool | int | datetime | Ref | Literal | Structure | Several | Typed | Since | None


def structure(type_name: str, /, **fields: Value) -> Structure:
    """Return a data object with these fields."""
    return Structure(type_name, tuple(fields.items()))


def version_of(text: str) -> Version:
    """Return the version in a text such as ``8.0.3.0``."""
    return tuple(int(part) for part in text.split("."))


def response(method: str, value: Value, version: Version) -> bytes:
    """Return the answer to a call; its `returnval` is left out for None."""
    inner = encode("returnval", value, version)
    return _body(f'<{method}Response xmlns="{NAMESPACE}">{inner}</{method}Response>')


def fault_response(fault: Structure, message: str, version: Version) -> bytes:
    """Return the answer to a call that failed, whose HTTP status is 500."""
    inner = "".join(encode(name, value, version) for name, value in fault.fields)
    return _body(
        "<soapenv:Fault><faultcode>ServerFaultCode</faultcode>"
        f"<faultstring>{_text(message)}</faultstring><detail>"
        f'<{fault.type}Fault xmlns="{NAMESPACE}" xsi:type="{fault.type}">{inner}</{fault.type}Fault>'
        "</detail></soapenv:Fault>"
    )


def encode(name: str, value: Value, version: Version, typed: bool = False) -> str:
    """Return the element or elements of a value. `typed` adds the attribute xsi:type."""
    match value:
        case None:
            return ""
        case Typed(inner):
            return encode(name, inner, version, True)
        case Since(since, inner):
            return encode(name, inner, version, typed) if version >= since else ""
        case Several(of, values, each_typed) if typed:
            inside = "".join(encode(of, each, version, each_typed) for each in values)
            return f'<{name} xsi:type="ArrayOf{of[0].upper()}{of[1:]}">{inside}</{name}>'
        case Several(_, values, each_typed):
            return "".join(encode(name, each, version, each_typed) for each in values)
        case Structure(of, fields):
            inside = "".join(encode(field, each, version) for field, each in fields)
            return f"<{name}{_type(of, typed)}>{inside}</{name}>"
        case Ref(of, moid):
            attributes = f" type={quoteattr(of)}{_type('ManagedObjectReference', typed)}"
            return f"<{name}{attributes}>{_text(moid)}</{name}>"
    of, text = _simple(value)
    return f"<{name}{_type(of, typed)}>{text}</{name}>"


def _simple(value: str | bool | int | datetime | Literal) -> tuple[str, str]:
    match value:
        case Literal(of, text):
            return of, _text(text)
        case bool():
            return "xsd:boolean", "true" if value else "false"
        case int():
            return "xsd:int", str(value)
        case datetime():
            return "xsd:dateTime", value.isoformat().replace("+00:00", "Z")
    return "xsd:string", _text(value)


def _type(of: str, typed: bool) -> str:
    return f' xsi:type="{of}"' if typed else ""


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", text))


def _body(inside: str) -> bytes:
    return (_ENVELOPE % inside).encode("utf-8")


@dataclass(frozen=True, slots=True)
class SoapElement:
    """An element of a request, with the values of its children."""

    element: ElementTree.Element

    @property
    def value(self) -> str:
        """The text."""
        return self.element.text or ""

    @property
    def ref(self) -> Ref:
        """The reference of a managed object."""
        return Ref(self.element.get("type", ""), self.value.strip())

    def child(self, name: str) -> SoapElement | None:
        """Return the first child with this name, or None."""
        return next(self.children(name), None)

    def children(self, name: str) -> Iterator[SoapElement]:
        """Yield the children with this name."""
        return (SoapElement(child) for child in self.element if child.tag == name)

    def text(self, name: str) -> str | None:
        """Return a child's text, or None."""
        child = self.child(name)
        return None if child is None else child.value

    def number(self, name: str) -> int | None:
        """Return a child's whole number, or None. Raises BadSoap for anything else."""
        text = self.text(name)
        if text is None:
            return None
        try:
            return int(text)
        except ValueError:
            raise BadSoap(f"{name} is not a whole number")

    def flag(self, name: str) -> bool:
        """Return whether a child says true."""
        return (self.text(name) or "").strip() in ("true", "1")

    @property
    def type(self) -> str:
        """The type that the element names, without its prefix."""
        return self.element.get(f"{{{_XSI}}}type", "").rpartition(":")[2]


@dataclass(frozen=True, slots=True)
class ReceivedCall:
    """One call: the method, the object that it is called on, its arguments and the version."""

    method: str
    target: Ref
    arguments: SoapElement
    version: Version


def read_call(body: bytes, action: str) -> ReceivedCall:
    """Read a request. Raises BadSoap."""
    named = _ACTION.fullmatch(action.strip())
    version = version_of(named[1]) if named and named[1] else OLDEST
    if len(body) > MAX_REQUEST:
        raise BadSoap("the request is too large")
    if b"<!DOCTYPE" in body:
        raise BadSoap("a document type is not accepted")
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise BadSoap(f"the request is not XML: {error}")
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    envelope_body = next((child for child in root if child.tag == "Body"), None)
    if root.tag != "Envelope" or envelope_body is None or len(envelope_body) != 1:
        raise BadSoap("the request is not an envelope with one call in its body")
    arguments = SoapElement(envelope_body[0])
    target = arguments.child("_this")
    if target is None:
        raise BadSoap("the call names no object")
    return ReceivedCall(envelope_body[0].tag, target.ref, arguments, version)
