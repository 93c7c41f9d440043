"""The REST interface of a simulated vCenter without HTTP: sessions, tags of machines, and console tickets."""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from esxiproxy.sim.vcenter.inventory import SimulatedInventory
from esxiproxy.sim.vcenter.objects import MachineObject
from esxiproxy.sim.vcenter.sessions import SessionStore
from esxiproxy.sim.vcenter.soap import Ref
from esxiproxy.sim.vcenter.soap_faults import VimFault

_NAMES: Final = uuid.UUID("a5a6e0a4-0000-4000-8000-000000000000")
_CATEGORY: Final = f"urn:vmomi:InventoryServiceCategory:{uuid.uuid5(_NAMES, 'consoles')}:GLOBAL"
_TAGGING: Final = "/api/cis/tagging/"
_TICKETS: Final = re.compile(r"/api/vcenter/vm/([^/]{1,64})/console/tickets")


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """An answer: its HTTP status and the value of its JSON body; None means no body."""

    status: int
    value: Any = None


class _Refused(Exception):
    def __init__(self, status: int, error_type: str, message: str) -> None:
        super().__init__(message)
        text = {"args": [], "default_message": message, "id": f"com.vmware.vapi.{error_type.lower()}"}
        self.answer = RestAnswer(status, {"error_type": error_type, "messages": [text]})


class RestEndpoint:
    """Answers the requests below /api. Its sessions are vCenter's own."""

    def __init__(
        self,
        inventory: SimulatedInventory,
        sessions: SessionStore,
        issue: Callable[[MachineObject, str], tuple[str, str]],
    ) -> None:
        self._inventory = inventory
        self._sessions = sessions
        self._issue = issue

    def answer(
        self, method: str, path: str, query: Mapping[str, str], fields: Mapping[str, str], body: bytes
    ) -> RestAnswer:
        """Return the answer to a request; the names of `fields` are in lower case."""
        try:
            if path == "/api/session" and method == "POST":
                return self._log_in(fields.get("authorization", ""))
            session = self._sessions.find(fields.get("vmware-api-session-id"))
            if session is None:
                raise _Refused(401, "UNAUTHENTICATED", "Authentication required.")
            if path == "/api/session":
                if method == "DELETE":
                    self._sessions.log_out(session)
                    return RestAnswer(204)
                return RestAnswer(200, {"user": session.user})
            if path.startswith(_TAGGING):
                return RestAnswer(200, self._tagging(method, path.removeprefix(_TAGGING), query, body))
            if method == "POST" and (asked := _TICKETS.fullmatch(path)) is not None:
                return RestAnswer(200, {"ticket": self._ticket(asked[1], session.user, body)})
            raise _Refused(404, "NOT_FOUND", "Not found.")
        except _Refused as refused:
            return refused.answer

    def _log_in(self, authorization: str) -> RestAnswer:
        credentials = basic_credentials(authorization)
        try:
            if credentials is None:
                raise _Refused(401, "UNAUTHENTICATED", "Authentication required.")
            session = self._sessions.log_in(*credentials)
        except VimFault:
            raise _Refused(401, "UNAUTHENTICATED", "Authentication required.")
        return RestAnswer(201, session.token)

    def _ticket(self, moid: str, user: str, body: bytes) -> str:
        machine = self._inventory.machines.get(Ref("VirtualMachine", moid))
        if machine is None:
            raise _Refused(404, "NOT_FOUND", "Not found.")
        if _field(body, "type") != "WEBMKS":
            raise _Refused(400, "UNSUPPORTED", "The simulated vCenter has tickets of the type WEBMKS.")
        try:
            return self._issue(machine, user)[1]
        except VimFault:
            raise _Refused(400, "NOT_ALLOWED_IN_CURRENT_STATE", "The machine has no console now.")

    def _tagging(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> Any:
        tags = {_tag_id(name): name for name in self._names}
        kind, _, identifier = path.partition("/")
        match method, kind, query.get("action"):
            case "GET", "category", None:
                return self._category(identifier) if identifier else [_CATEGORY]
            case "GET", "tag", None:
                if not identifier:
                    return list(tags)
                name = _known(tags, identifier)
                return {
                    "id": identifier,
                    "category_id": _CATEGORY,
                    "name": name,
                    "description": "",
                    "used_by": [],
                }
            case "POST", "tag", "list-tags-for-category":
                return list(tags)
            case "POST", "tag-association", "list-attached-objects" if identifier:
                return self._attached(_known(tags, identifier))
            case "POST", "tag-association", "list-attached-objects-on-tags":
                wanted = [each for each in _list(body, "tag_ids") if each in tags]
                return [{"tag_id": each, "object_ids": self._attached(tags[each])} for each in wanted]
            case "POST", "tag-association", "list-attached-tags":
                return self._tags_of(_field(body, "object_id"))
            case "POST", "tag-association", "list-attached-tags-on-objects":
                return [
                    {"object_id": each, "tag_ids": self._tags_of(each)} for each in _list(body, "object_ids")
                ]
        raise _Refused(404, "NOT_FOUND", "Not found.")

    @property
    def _names(self) -> list[str]:
        return sorted({tag for machine in self._inventory.machines.values() for tag in machine.tags})

    def _category(self, identifier: str) -> dict[str, Any]:
        if identifier != _CATEGORY:
            raise _Refused(404, "NOT_FOUND", "Not found.")
        return {
            "id": _CATEGORY,
            "name": "consoles",
            "description": "",
            "cardinality": "MULTIPLE",
            "associable_types": [],
            "used_by": [],
        }

    def _attached(self, name: str) -> list[dict[str, str]]:
        return [_object(machine) for machine in self._inventory.machines.values() if name in machine.tags]

    def _tags_of(self, wanted: Any) -> list[str]:
        moid = wanted.get("id") if isinstance(wanted, dict) else None
        machine = self._inventory.machines.get(Ref("VirtualMachine", str(moid)))
        return [] if machine is None else [_tag_id(tag) for tag in sorted(machine.tags)]


def basic_credentials(authorization: str) -> tuple[str, str] | None:
    """Return the user and the password of an Authorization field, or None."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if colon else None


def _tag_id(name: str) -> str:
    return f"urn:vmomi:InventoryServiceTag:{uuid.uuid5(_NAMES, name)}:GLOBAL"


def _object(machine: MachineObject) -> dict[str, str]:
    return {"id": machine.ref.moid, "type": "VirtualMachine"}


def _known(tags: Mapping[str, str], identifier: str) -> str:
    if identifier not in tags:
        raise _Refused(404, "NOT_FOUND", f"Tag {identifier} was not found.")
    return tags[identifier]


def _field(body: bytes, name: str) -> Any:
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict) or name not in value:
        raise _Refused(400, "INVALID_ARGUMENT", f"The request's body has no field {name}.")
    return value[name]


def _list(body: bytes, name: str) -> list[Any]:
    value = _field(body, name)
    if not isinstance(value, list):
        raise _Refused(400, "INVALID_ARGUMENT", f"{name} is not a list.")
    return value
