"""The admin service on a real unix socket, in a thread; its operations return what a test sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from twisted.internet.defer import Deferred

from esxiproxy.admin.call import Call, Handlers
from esxiproxy.admin.openapi.operations import OPERATIONS
from esxiproxy.admin.openapi.schemas import SCHEMAS, reference
from esxiproxy.admin.service import AdminParts, AdminService
from esxiproxy.core.config.model import Admin
from tests.support.admin_site import StandInControl
from tests.support.reactor_thread import ReactorThread


class RunningAdmin(ReactorThread):
    """The service with the socket ``path``.

    ``answers`` has a value, an exception or a function of the call for each operation.  ``seen`` has their
    calls in order.  An answer that does not fit the API's document is an internal error of the service.
    """

    def __init__(self, path: Path, audit_log: Path | None = None) -> None:
        super().__init__()
        self.path = path
        self.answers: dict[str, Any] = {}
        self.seen: list[tuple[str, Call]] = []
        self._admin = Admin(path, audit_log=audit_log)

    def calls(self, name: str) -> list[Call]:
        """Return the calls of an operation."""
        return [call for operation, call in self.seen if operation == name]

    def start(self) -> None:
        self._service = AdminService(self.reactor, self._parts())
        bound = self._service.bind(self._admin, AsyncExitStack())
        self._service.serve(bound, self._admin, None)
        self._service.startService()

    def stop(self) -> Deferred[Any]:
        return self._service.stopService()

    def _parts(self) -> AdminParts:
        def no_stream(_actor: object, _parameters: Mapping[str, Any]) -> Any:
            raise AssertionError("no command opens a stream")

        def metrics(_accept: str) -> Deferred[tuple[str, bytes]]:
            raise AssertionError("no command reads the metrics")

        def secured(_tls: object, factory: Any) -> Any:
            return factory

        control: Any = StandInControl(self.reactor)
        return AdminParts(control, self._handlers(), no_stream, metrics, secured, control.in_thread)

    def _handlers(self) -> Handlers:
        return {operation.name: self._handler(operation.name, operation.returns) for operation in OPERATIONS}

    def _handler(self, name: str, schema: str) -> Callable[[Call], Any]:
        async def handle(call: Call) -> Any:
            self.seen.append((name, call))
            answer = self.answers[name]
            value = answer(call) if callable(answer) else answer
            if isinstance(value, Exception):
                raise value
            check(schema, value)
            return value

        return handle


def check(schema: str, value: Any) -> None:
    """Fail unless a value fits a schema of the API's document."""
    whole = {**reference(schema), "components": {"schemas": SCHEMAS}}
    Draft202012Validator(whole).validate(value)


def paged(name: str, rows: list[dict[str, Any]]) -> Callable[[Call], dict[str, Any]]:
    """Return the answer of a list: the page of these rows that the call asks for."""

    def page(call: Call) -> dict[str, Any]:
        offset, limit = call.parameters["offset"], call.parameters["limit"]
        return {
            name: rows[offset : offset + limit],
            "total": len(rows),
            "matching": len(rows),
            "offset": offset,
        }

    return page
