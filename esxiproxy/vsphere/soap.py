"""The SOAP of vSphere: requests, answers and faults, without any connection."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

from esxiproxy.vsphere.xml_tree import InvalidAnswer, parse, text_of, type_of

OLDEST_VERSION = "6.0"
"""The version of the API before that of the server is known."""
_BEGIN = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema">'
    "<Body>"
)
_END = "</Body></Envelope>"
_VERSION = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,4}){1,4}")
_FAULT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
_PRIVILEGE = re.compile(r"[A-Za-z0-9.]{1,128}")
_STATE = re.compile(r"[A-Za-z]{1,32}")


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """A reference to an object of vSphere: its type and its id."""

    type: str
    moid: str


@dataclass(frozen=True, slots=True)
class SoapCall:
    """One call: its method, and the XML of its request, which may hold a password."""

    method: str
    content: str = field(repr=False)

    def envelope(self) -> bytes:
        """Return the body of the HTTP request."""
        return f"{_BEGIN}{self.content}{_END}".encode()


class SoapFault(Exception):
    """A fault that vSphere answered.

    ``name`` is its type, such as ``NotAuthenticated``.  ``privilege`` is the one that is missing with
    ``NoPermission``, and ``state`` is the power state with ``InvalidPowerState``.  Free text of the server is
    left out.
    """

    def __init__(self, name: str, privilege: str = "", state: str = "") -> None:
        super().__init__(f"{name}: {privilege} is missing" if privilege else name)
        self.name = name
        self.privilege = privilege
        self.state = state


def soap_call(method: str, this: ObjectRef, *arguments: str) -> SoapCall:
    """Return a call of a method of an object.  ``arguments`` are elements, in the order of the API."""
    content = f'<{method} xmlns="urn:vim25">{reference("_this", this)}{"".join(arguments)}</{method}>'
    return SoapCall(method, content)


def element(name: str, value: str | int | bool) -> str:
    """Return an element with a text."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"<{name}>{escape(text)}</{name}>"


def group(name: str, *content: str, xsi_type: str = "") -> str:
    """Return an element with other elements in it."""
    attribute = f" xsi:type={quoteattr(xsi_type)}" if xsi_type else ""
    return f"<{name}{attribute}>{''.join(content)}</{name}>"


def reference(name: str, ref: ObjectRef) -> str:
    """Return an element that refers to an object."""
    return f"<{name} type={quoteattr(ref.type)}>{escape(ref.moid)}</{name}>"


def answer_of(call: SoapCall, status: int, body: bytes) -> Element:
    """Return the element with the results of a call.  Raise SoapFault or InvalidAnswer."""
    if status not in (200, 500):
        raise InvalidAnswer(f"the answer to {call.method} has the status {status}")
    content = parse(body).find("Body")
    if content is None or not len(content):
        raise InvalidAnswer(f"the answer to {call.method} is no SOAP")
    first = content[0]
    if first.tag == "Fault":
        raise _fault(first)
    if first.tag != f"{call.method}Response":
        raise InvalidAnswer(f"the answer to {call.method} is that of another call")
    return first


def is_version(text: str) -> bool:
    """Return whether a text is a version of the API, such as 8.0.2.0."""
    return _VERSION.fullmatch(text) is not None


def newest_version(document: bytes) -> str | None:
    """Return the newest version that ``vimServiceVersions.xml`` lists for this API, None if there is none."""
    try:
        root = parse(document)
    except InvalidAnswer:
        return None
    for namespace in root.iter("namespace"):
        version = text_of(namespace, "version")
        if text_of(namespace, "name") == "urn:vim25" and is_version(version):
            return version
    return None


def _fault(found: Element) -> SoapFault:
    detail = found.find("detail")
    for each in () if detail is None else detail:
        name = type_of(each) or each.tag.removesuffix("Fault")
        if _FAULT_NAME.fullmatch(name):
            privilege, state = text_of(each, "privilegeId"), text_of(each, "existingState")
            return SoapFault(
                name,
                privilege if _PRIVILEGE.fullmatch(privilege) else "",
                state if _STATE.fullmatch(state) else "",
            )
    return SoapFault("UnnamedFault")
