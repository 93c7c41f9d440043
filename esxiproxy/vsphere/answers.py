"""The answers of vSphere, read into values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from xml.etree.ElementTree import Element

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from esxiproxy.core.thumbprint import Pin
from esxiproxy.vsphere.console_ticket import ConsoleTicket
from esxiproxy.vsphere.machine import MachineConnection
from esxiproxy.vsphere.soap import ObjectRef, is_version
from esxiproxy.vsphere.xml_tree import InvalidAnswer, text_of

MOID = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,256}")
"""An id of an object.  That of a view has the session in brackets."""
_TYPE = re.compile(r"[A-Za-z]{1,64}")
_TICKET = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/-]{1,1024}")
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,255}")
_DIGITS = {"sha1": 40, "sha256": 64}
_MAX_TEXT = 1024
"""Maximum number of characters of a property.  vSphere's names have 80."""
_MAX_CONNECTIONS = 1000


@dataclass(frozen=True, slots=True)
class ServiceContent:
    """The objects that a server has for logins and for reading its machines, and its version of the API."""

    session_manager: ObjectRef
    property_collector: ObjectRef
    view_manager: ObjectRef
    root: ObjectRef
    is_vcenter: bool
    version: str


class UpdateKind(Enum):
    """A kind of an object's change."""

    ENTER = "enter"
    MODIFY = "modify"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class ObjectUpdate:
    """The change of one object.  A property without a value is None."""

    kind: UpdateKind
    object: ObjectRef
    properties: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class UpdateSet:
    """The changes up to a version.  ``truncated`` is whether there are more already."""

    version: str
    truncated: bool
    objects: tuple[ObjectUpdate, ...]


def service_content(answer: Element) -> ServiceContent:
    """Return the objects of a server.  Raise InvalidAnswer if one is missing."""
    found = _returned(answer)
    about = found.find("about")
    version = text_of(about, "apiVersion")
    return ServiceContent(
        _reference(found.find("sessionManager")),
        _reference(found.find("propertyCollector")),
        _reference(found.find("viewManager")),
        _reference(found.find("rootFolder")),
        text_of(about, "apiType") == "VirtualCenter",
        version if is_version(version) else "",
    )


def created(answer: Element) -> ObjectRef:
    """Return the object that a call has created."""
    return _reference(answer.find("returnval"))


def update_set(answer: Element) -> UpdateSet | None:
    """Return the changes, None if nothing has changed within the time of the call.  Raise InvalidAnswer."""
    found = answer.find("returnval")
    if found is None:
        return None
    version = text_of(found, "version")
    if not version or len(version) > _MAX_TEXT:
        raise InvalidAnswer("the answer to WaitForUpdatesEx has no version")
    objects = tuple(
        _update(each) for filtered in found.iterfind("filterSet") for each in filtered.iterfind("objectSet")
    )
    return UpdateSet(version, text_of(found, "truncated") in ("true", "1"), objects)


def console_ticket(answer: Element, api_host: str) -> ConsoleTicket:
    """Return a ticket with the strongest identity of its host.  Raise InvalidAnswer.

    A standalone ESXi host leaves its name out: it is the host of the API.
    """
    found = _returned(answer)
    ticket, host, port = text_of(found, "ticket"), text_of(found, "host"), text_of(found, "port") or "443"
    if not _TICKET.fullmatch(ticket):
        raise InvalidAnswer("the answer to AcquireTicket has no ticket")
    if host and not _HOST.fullmatch(host):
        raise InvalidAnswer("the answer to AcquireTicket has a host that is no host name")
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise InvalidAnswer("the answer to AcquireTicket has a port that is no port")
    certificate = _certificate(text_of(found, "sslCertificate"))
    pins = () if certificate else tuple(_sha256(found)) or tuple(_sha1(found))
    if not certificate and not pins and found.find("certThumbprintList") is not None:
        raise InvalidAnswer("the answer to AcquireTicket has thumbprints by unknown algorithms only")
    return ConsoleTicket(ticket, host.lower() or api_host, int(port), certificate, pins)


def machine_connections(answer: Element) -> tuple[MachineConnection, ...]:
    """Return the open consoles of a machine, at most 1,000."""
    found = answer.findall("returnval")[:_MAX_CONNECTIONS]
    return tuple(
        MachineConnection(_text(each, "label"), _text(each, "client"), _text(each, "userName"))
        for each in found
    )


def _update(found: Element) -> ObjectUpdate:
    try:
        kind = UpdateKind(text_of(found, "kind"))
    except ValueError:
        raise InvalidAnswer("the answer to WaitForUpdatesEx has an unknown kind of change") from None
    changes: list[tuple[str, str | None]] = []
    for change in found.iterfind("changeSet"):
        value = change.find("val") if text_of(change, "op") in ("assign", "add") else None
        changes.append((text_of(change, "name"), None if value is None else (value.text or "")[:_MAX_TEXT]))
    changes += [(text_of(missing, "path"), None) for missing in found.iterfind("missingSet")]
    return ObjectUpdate(kind, _reference(found.find("obj")), tuple(changes))


def _returned(answer: Element) -> Element:
    found = answer.find("returnval")
    if found is None:
        raise InvalidAnswer(f"the {answer.tag} is empty")
    return found


def _reference(found: Element | None) -> ObjectRef:
    if found is None:
        raise InvalidAnswer("the answer lacks an object")
    kind, moid = found.get("type", ""), (found.text or "").strip()
    if not _TYPE.fullmatch(kind) or not MOID.fullmatch(moid):
        raise InvalidAnswer("the answer has an object without a type or an id")
    return ObjectRef(kind, moid)


def _text(found: Element, name: str) -> str:
    return text_of(found, name)[:_MAX_TEXT]


def _certificate(text: str) -> bytes | None:
    if not text.strip():
        return None
    try:
        return load_pem_x509_certificate(text.strip().encode("ascii")).public_bytes(Encoding.DER)
    except ValueError:  # a text that is not ASCII among them
        raise InvalidAnswer("the answer to AcquireTicket has a certificate that cannot be read") from None


def _sha256(found: Element) -> Iterator[Pin]:
    for each in found.iterfind("certThumbprintList"):
        # The algorithm may be missing.  The API knows this one only.
        if (text_of(each, "hashAlgorithm").strip().lower() or "sha256") == "sha256":
            yield _pin("sha256", text_of(each, "thumbprint"))


def _sha1(found: Element) -> Iterator[Pin]:
    if text := text_of(found, "sslThumbprint"):
        yield _pin("sha1", text)


def _pin(algorithm: str, text: str) -> Pin:
    digest = text.replace(":", "").strip().lower()
    if len(digest) != _DIGITS[algorithm] or not re.fullmatch("[0-9a-f]+", digest):
        raise InvalidAnswer(f"the answer to AcquireTicket has no valid {algorithm} thumbprint")
    return Pin(algorithm, digest)
