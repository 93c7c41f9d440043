"""Checks the query and the body of a request against the tables of the API."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote_to_bytes

from esxiproxy.admin.call import ApiError
from esxiproxy.admin.openapi.operations import Operation, Parameter
from esxiproxy.admin.openapi.schema_builders import Schema
from esxiproxy.admin.openapi.schemas import ONE_LINE, SCHEMAS
from esxiproxy.core.strict_json import strict_json

MAX_BODY = 64 << 10
"""Bytes of a request's body."""
_INTEGER = re.compile(r"-?[0-9]{1,15}")


def parameters_of(operation: Operation, query: bytes, in_path: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the parameters of a request, with the defaults of the table.  Raises ApiError."""
    known = {each.name: each for each in operation.parameters}
    given: dict[str, str] = {}
    for name, value in _pairs(query):
        if name not in known or name in in_path:
            raise ApiError(400, f"the query has a parameter that {operation.path} does not take")
        if name in given:
            raise ApiError(400, f"the query has {name} twice")
        given[name] = value
    found: dict[str, Any] = {}
    for name, parameter in known.items():
        text = in_path.get(name, given.get(name))
        if text is not None:
            found[name] = _value(parameter, text)
        elif "default" in parameter.schema:
            found[name] = parameter.schema["default"]
    return MappingProxyType(found)


def _pairs(query: bytes) -> Iterable[tuple[str, str]]:
    for part in query.split(b"&") if query else ():
        name, _, value = part.partition(b"=")
        try:
            yield _decoded(name), _decoded(value)
        except UnicodeDecodeError:
            raise ApiError(400, "the query is not UTF-8") from None


def _decoded(octets: bytes) -> str:
    return unquote_to_bytes(octets.replace(b"+", b" ")).decode("utf-8")


def _value(parameter: Parameter, text: str) -> Any:
    value: Any = text
    if parameter.schema["type"] == "integer":
        value = int(text) if _INTEGER.fullmatch(text) else text
    _check(parameter.schema, value, parameter.name)
    return value


def body_of(operation: Operation, content_types: list[bytes], body: bytes) -> Mapping[str, Any]:
    """Return the checked JSON object of a request.  Raises ApiError."""
    if not operation.takes:
        if body:
            raise ApiError(400, f"{operation.path} takes no body")
        return MappingProxyType({})
    kinds = [each.partition(b";")[0].strip().lower() for each in content_types]
    if kinds != [b"application/json"]:
        raise ApiError(415, "the body has to be JSON: send Content-Type: application/json")
    try:
        value = strict_json(body)
    except ValueError as error:
        raise ApiError(400, f"the body is refused: {error}") from None
    _check(SCHEMAS[operation.takes], value, "")
    return MappingProxyType(value)


_VALIDATORS: dict[int, Any] = {}
"""The validators of the schemas of the tables, by the ids of these constants."""


def _validator(schema: Schema) -> Any:
    if id(schema) not in _VALIDATORS:
        from jsonschema import Draft202012Validator, validators  # a package of the extra `admin`

        checked = validators.extend(Draft202012Validator, {"pattern": _pattern})
        _VALIDATORS[id(schema)] = checked(schema)
    return _VALIDATORS[id(schema)]


def _pattern(_validator: Any, pattern: str, value: Any, _schema: Schema) -> Iterable[Any]:
    """Yield an error for a text that does not match; in JSON Schema no line feed may follow ``$``."""
    from jsonschema import ValidationError

    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), value):
        yield ValidationError("the text does not match")


def _check(schema: Schema, value: Any, name: str) -> None:
    """Raise ApiError with the first mistake.  Its text has nothing of the value, which may be a secret."""
    for error in _validator(schema).iter_errors(value):
        place = ".".join(str(part) for part in (name, *error.absolute_path) if part != "")
        raise ApiError(400, _sentence(place or "the body", error.validator, error.validator_value, error))


def _sentence(place: str, rule: str, wanted: Any, error: Any) -> str:
    if rule == "required":
        missing = [name for name in wanted if name not in error.instance]
        return f"{place} lacks {', '.join(missing)}"
    if rule == "additionalProperties":
        return f"{place} has a member that this operation does not take"
    if rule == "enum":
        return f"{place} has to be one of {', '.join(map(str, wanted))}"
    if rule == "pattern" and wanted == ONE_LINE:
        return f"{place} has a line break or a control character"
    if rule == "not":
        return f"{place} is not possible with these other members: see the OpenAPI document"
    rules = {
        "type": "has to be of the type {}",
        "minLength": "has at least {} characters",
        "maxLength": "has at most {} characters",
        "minimum": "has to be at least {}",
        "exclusiveMinimum": "has to be more than {}",
        "maximum": "has to be at most {}",
        "maxItems": "has at most {} items",
        "pattern": "has to match {}",
    }
    return f"{place} {rules.get(rule, 'does not fit the OpenAPI document').format(wanted)}"
