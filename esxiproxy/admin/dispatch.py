"""Finds the operation of a request, checks the request, and calls the operation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.admin.access import Access, Arrival, Login, Unauthenticated
from esxiproxy.admin.audit import AuditFailed, AuditLog
from esxiproxy.admin.call import Actor, ApiError, Call, Handlers
from esxiproxy.admin.openapi.document import ACTION_FIELD, document, path_pattern
from esxiproxy.admin.openapi.operations import BASE, EVENTS, OPERATIONS, Operation, Role
from esxiproxy.admin.openapi.schemas import MAX_REASON
from esxiproxy.admin.requests import body_of, parameters_of
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.redaction import redact_text

Fields = tuple[tuple[bytes, bytes], ...]
_ROUTES = [(path_pattern(operation), operation) for operation in (*OPERATIONS, EVENTS)]
_RETRY: Fields = ((b"Retry-After", b"2"),)
_REJECTED = (404, 409)
"""Statuses of actions that were permitted and had nothing to act on, or could not be done."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its status, its JSON value and further fields, or the call that opens an event stream."""

    status: int
    value: Any
    fields: Fields = ()
    events: Call | None = None


class Dispatcher:
    """The API on one address: ``access`` is its rule, ``handlers`` are its operations by their names."""

    _log = Logger()

    def __init__(
        self,
        handlers: Handlers,
        access: Access,
        audit: AuditLog,
        prechecks: Handlers = MappingProxyType({}),
    ) -> None:
        self._handlers = handlers
        self._prechecks = prechecks
        self._access = access
        self._audit = audit

    def host_refusal(self, arrival: Arrival) -> Reply | None:
        """Return the answer to a request whose Host field is refused, else None."""
        try:
            self._access.check_host(arrival)
        except ApiError as error:
            return Reply(error.status, {"error": str(error)})
        return None

    async def page_login(self, arrival: Arrival) -> Reply | Fields:
        """Return fields for the page, or the answer to a browser that has to log in first."""
        try:
            self._access.check_host(arrival)
            return (await self._access.login(arrival)).fields
        except ApiError as error:
            return Reply(error.status, {"error": str(error)})
        except Unauthenticated as error:
            return Reply(error.status, {"error": str(error)}, error.fields)

    async def reply(self, arrival: Arrival, body: bytes) -> Reply:
        """Return the answer to a request.  Never fails."""
        login: Login | None = None
        try:
            self._access.check_host(arrival)
            path, _, query = arrival.target.partition(b"?")
            operation, in_path = _operation(arrival.method, path)
            login = await self._access.login(arrival)
            return await self._reply(arrival, login, operation, in_path, query, body)
        except ApiError as error:
            fields = (*(() if login is None else login.fields), *_fields_of(error))
            return Reply(error.status, {"error": str(error)}, fields)
        except Unauthenticated as error:
            return Reply(error.status, {"error": str(error)}, error.fields)
        except StateUnavailable as error:
            text = f"the state cannot be reached: {redact_text(error.detail)}; try again"
            return Reply(503, {"error": text}, _RETRY)
        except AuditFailed as error:
            return Reply(503, {"error": f"nothing was done, since the audit log failed: {error}"}, _RETRY)
        except Exception:
            self._log_bug(arrival)
            return Reply(500, {"error": "an internal error: the log of the proxy has its traceback"})

    def _log_bug(self, arrival: Arrival) -> None:
        self._log.error(
            "bug in the admin API, {method} {path}: {traceback}",
            method=arrival.method.decode("latin-1"),
            path=arrival.target.partition(b"?")[0].decode("latin-1"),
            traceback=redact_text(Failure().getTraceback()),
        )

    async def _reply(
        self,
        arrival: Arrival,
        login: Login,
        operation: Operation | None,
        in_path: Mapping[str, str],
        query: bytes,
        body: bytes,
    ) -> Reply:
        """Return the reply to a request whose client has logged in.  Raises ApiError."""
        actor = login.actor
        if operation is None:
            if actor.role is None:
                raise _no_right(actor, Role.VIEWER)
            return Reply(200, document(), login.fields)
        if operation.role is Role.OPERATOR:
            return await self._act(arrival, login, operation, query, body)
        if actor.role is None:
            raise _no_right(actor, operation.role)
        arguments = parameters_of(operation, query, in_path)
        if body:
            raise ApiError(400, f"{operation.path} takes no body")
        if operation is EVENTS:
            return Reply(200, None, login.fields, Call(actor, arguments))
        return Reply(200, await self._handlers[operation.name](Call(actor, arguments)), login.fields)

    async def _act(
        self, arrival: Arrival, login: Login, operation: Operation, query: bytes, body: bytes
    ) -> Reply:
        """Check the right to an action, and do it between two lines of the audit log."""
        actor = login.actor
        try:
            self._check_action(arrival, actor)
        except ApiError as error:
            await self._audit.end("", operation.name, actor, {}, "refused", str(error))
            raise
        parameters_of(operation, query, {})
        arguments = body_of(operation, arrival.values(b"content-type"), body)
        if (precheck := self._prechecks.get(operation.name)) is not None:
            await precheck(Call(actor, body=arguments))
        shown = {
            name: redact_text(value) if isinstance(value, str) else value for name, value in arguments.items()
        }
        identity = await self._audit.begin(operation.name, actor, shown)

        async def end(outcome: str, detail: str = "") -> None:
            await self._audit.end(identity, operation.name, actor, shown, outcome, detail)

        try:
            value = await self._handlers[operation.name](Call(actor, body=_for_all(arguments)))
        except ApiError as error:
            await end("refused" if error.status in _REJECTED else "failed", str(error))
            raise
        except StateUnavailable:
            await end("failed", "the state cannot be reached")
            raise
        except BaseException as error:
            await end("failed", type(error).__name__)
            raise
        await end("done")
        return Reply(200, value, login.fields)

    def _check_action(self, arrival: Arrival, actor: Actor) -> None:
        self._access.check_action(arrival)
        if arrival.values(ACTION_FIELD.lower().encode()) != [b"1"]:
            raise ApiError(403, f"an action needs the field {ACTION_FIELD}: 1")
        if actor.role is not Role.OPERATOR:
            raise _no_right(actor, Role.OPERATOR)


def _for_all(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of an action; its reason, which many people see, has no secrets."""
    if "reason" not in arguments:
        return arguments
    return MappingProxyType({**arguments, "reason": redact_text(arguments["reason"])[:MAX_REASON]})


def _no_right(actor: Actor, role: Role) -> ApiError:
    return ApiError(403, f"{actor.name} is no {role.value}: see viewers and operators in [admin]")


def _fields_of(error: ApiError) -> Fields:
    if isinstance(error, _MethodRefused):
        return ((b"Allow", b", ".join(error.allowed)),)
    return _RETRY if error.status == 503 else ()


class _MethodRefused(ApiError):
    def __init__(self, allowed: list[bytes]) -> None:
        super().__init__(405, f"this path takes {b' and '.join(allowed).decode()}")
        self.allowed = allowed


def _operation(method: bytes, path: bytes) -> tuple[Operation | None, Mapping[str, str]]:
    """Return the operation of a request and the parameters in its path; None for the OpenAPI document.

    Raises ApiError.
    """
    text = path.decode("latin-1")
    allowed: list[bytes] = []
    for pattern, operation in _ROUTES:
        found = pattern.fullmatch(text)
        if found is None:
            continue
        if _fits(method, operation.method.encode()):
            in_path = {name: value for name, value in found.groupdict().items() if value is not None}
            _check_path(operation, in_path)
            return operation, in_path
        allowed.extend([b"GET", b"HEAD"] if operation.method == "GET" else [operation.method.encode()])
    if text == f"{BASE}/openapi.json":
        if _fits(method, b"GET"):
            return None, {}
        allowed = [b"GET", b"HEAD"]
    if allowed:
        raise _MethodRefused(allowed)
    raise ApiError(404, f"there is no such path: {BASE}/openapi.json describes all of them")


def _check_path(operation: Operation, in_path: Mapping[str, str]) -> None:
    for parameter in operation.parameters:
        value = in_path.get(parameter.name)
        if value is not None and not re.fullmatch(parameter.schema.get("pattern", ".*"), value):
            raise ApiError(404, f"there is no {operation.path} with this {parameter.name}")


def _fits(method: bytes, wanted: bytes) -> bool:
    return method == wanted or (method == b"HEAD" and wanted == b"GET")
