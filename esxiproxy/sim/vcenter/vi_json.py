"""The VI-JSON interface of a simulated vCenter without HTTP: the calls of SOAP, with JSON in place of XML."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, Final
from xml.etree import ElementTree

from esxiproxy.sim.vcenter import soap
from esxiproxy.sim.vcenter.endpoint import SoapEndpoint
from esxiproxy.sim.vcenter.rest import RestAnswer
from esxiproxy.sim.vcenter.session_calls import NewSession
from esxiproxy.sim.vcenter.soap import (
    BadSoap,
    Literal,
    ReceivedCall,
    Ref,
    Several,
    Since,
    SoapElement,
    Structure,
    Typed,
    Value,
    Version,
)
from esxiproxy.sim.vcenter.soap_faults import VimFault

OLDEST: Final = (8, 0, 1, 0)
"""The first version of vSphere with this interface."""
_PATH: Final = re.compile(
    r"/sdk/vim25/([0-9]{1,4}(?:\.[0-9]{1,4}){3})/([A-Za-z]{1,64})/([^/]{1,256})/([A-Za-z_]{1,64})"
)


class ViJsonEndpoint:
    """Answers POST requests below /sdk/vim25 whose arguments are texts, numbers, true and false."""

    def __init__(self, endpoint: SoapEndpoint) -> None:
        self._endpoint = endpoint

    async def answer(self, path: str, token: str | None, body: bytes) -> RestAnswer:
        """Return the answer to a request within the session of a token. Raises TransportFault."""
        found = _PATH.fullmatch(path)
        version = soap.version_of(found[1]) if found else ()
        if found is None or version < OLDEST:
            return RestAnswer(404)
        try:
            call = ReceivedCall(found[4], Ref(found[2], found[3]), _arguments(body), version)
            value = await self._endpoint.perform(call, token, NewSession())
        except BadSoap as error:
            return RestAnswer(400, {"_typeName": "InvalidRequest", "message": str(error)})
        except VimFault as fault:
            return RestAnswer(500, {**_json(fault.fault, version), "message": fault.message})
        return RestAnswer(204) if value is None else RestAnswer(200, _json(value, version))


def _arguments(body: bytes) -> SoapElement:
    """Return the members of a JSON object as an element of SOAP. Raises BadSoap."""
    if len(body) > soap.MAX_REQUEST:
        raise BadSoap("the request is too large")
    try:
        members = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):
        raise BadSoap("the request is not a JSON object")
    element = ElementTree.Element("arguments")
    for name, value in members.items():
        if not isinstance(value, str | int | float):
            raise BadSoap(f"{name} is no text and no number")
        text = str(value).lower() if isinstance(value, bool) else str(value)
        ElementTree.SubElement(element, name).text = text
    return SoapElement(element)


def _json(value: Value, version: Version) -> Any:
    """Return the JSON of a value; None stands for a field that is left out."""
    match value:
        case Typed(inner):
            return _json(inner, version)
        case Since(since, inner):
            return _json(inner, version) if version >= since else None
        case Several(_, values):
            return [_json(each, version) for each in values]
        case Structure(of, fields):
            members = {name: _json(each, version) for name, each in fields}
            kept = {name: each for name, each in members.items() if each is not None}
            return {"_typeName": of, **kept}
        case Ref(of, moid):
            return {"_typeName": "ManagedObjectReference", "type": of, "value": moid}
        case Literal(_, text):
            return text
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
    return value
