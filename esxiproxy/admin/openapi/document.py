"""The OpenAPI 3.1 document of the API, made of the tables of operations and schemas."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

from esxiproxy.admin.openapi.operations import BASE, EVENTS, OPERATIONS, Operation, Parameter, Role
from esxiproxy.admin.openapi.schema_builders import Schema, reference
from esxiproxy.admin.openapi.schemas import SCHEMAS

_ERRORS = {
    400: "The request does not fit this document.",
    401: "Nobody has logged in.",
    403: "The user may not do this, or the request comes from another site.",
    404: "There is no such thing.",
    405: "The path has other methods; Allow names them.",
    409: "The proxy cannot do this now, or with this configuration.",
    413: "The body is too long.",
    415: "The body is no application/json.",
    421: "The Host field is none of the names of this address.",
    503: "The state or the audit log cannot be reached; Retry-After says when to try again.",
}
_ALWAYS = (400, 401, 403, 405, 421, 503)
_WITH_BODY = (413, 415)
ACTION_FIELD = "X-Esxiproxy"
"""The field that every action has.  A page of another site cannot send it."""


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in (*OPERATIONS, EVENTS):
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "esxiproxy admin API",
            "version": version("esxiproxy"),
            "description": "See and steer the proxies that share one state.",
        },
        "servers": [{"url": BASE}],
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }


def _described(operation: Operation) -> dict[str, Any]:
    parameters = [_parameter(operation, each) for each in operation.parameters]
    if operation.role is Role.OPERATOR:
        schema: Schema = {"type": "string", "const": "1"}
        parameters.append({"name": ACTION_FIELD, "in": "header", "required": True, "schema": schema})
    found: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"For {operation.role.value}s.",
        "parameters": parameters,
        "responses": _responses(operation),
    }
    if operation.takes:
        content = {"application/json": {"schema": reference(operation.takes)}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _parameter(operation: Operation, parameter: Parameter) -> dict[str, Any]:
    in_path = f"{{{parameter.name}}}" in operation.path
    return {
        "name": parameter.name,
        "in": "path" if in_path else "query",
        "required": in_path,
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _responses(operation: Operation) -> dict[str, Any]:
    statuses = sorted({*_ALWAYS, *operation.errors, *(_WITH_BODY if operation.takes else ())})
    if operation.returns:
        content = {"application/json": {"schema": reference(operation.returns)}}
    else:
        content = {"text/event-stream": {"schema": reference("Event")}}
    return {
        "200": {"description": operation.summary, "content": content},
        **{
            str(status): {
                "description": _ERRORS[status],
                "content": {"application/json": {"schema": reference("Error")}},
            }
            for status in statuses
        },
    }


def path_pattern(operation: Operation) -> re.Pattern[str]:
    """Return the pattern of the paths of an operation, with its parameters as groups."""
    return re.compile(BASE + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", operation.path))
