"""The admin service on a real unix socket, in a thread; its operations return what a test sets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jsonschema import Draft202012Validator
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor

from esxiproxy.admin.call import Call, Handlers
from esxiproxy.admin.openapi.operations import OPERATIONS
from esxiproxy.admin.openapi.schemas import SCHEMAS, reference
from esxiproxy.admin.service import AdminParts, AdminService
from esxiproxy.core.config.model import Admin
from tests.support.admin_site import StandInControl

DEADLINE = 10.0


class RunningAdmin:
    """The service with the socket ``path``.

    ``answers`` has a value, an exception or a function of the call for each operation.  ``seen`` has their
    calls in order.  An answer that does not fit the API's document is an internal error of the service.
    """

    def __init__(self, path: Path, audit_log: Path | None = None) -> None:
        self.path = path
        self.answers: dict[str, Any] = {}
        self.seen: list[tuple[str, Call]] = []
        self._admin = Admin(path, audit_log=audit_log)
        self._reactor = EPollReactor()
        self._is_over = False
        self._up = threading.Event()
        self._problems: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(DEADLINE) and not self._problems, self._problems
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reactor.callFromThread(setattr, self, "_is_over", True)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive() and not self._problems, self._problems

    def calls(self, name: str) -> list[Call]:
        """Return the calls of an operation."""
        return [call for operation, call in self.seen if operation == name]

    def _run(self) -> None:
        try:
            self._reactor.startRunning(installSignalHandlers=False)
            service = AdminService(self._reactor, self._parts())
            bound = service.bind(self._admin, AsyncExitStack())
            service.serve(bound, self._admin, None)
            service.startService()
            self._up.set()
            while not self._is_over:
                self._turn()
            stopped: list[Any] = []
            service.stopService().addBoth(stopped.append)
            while not stopped:
                self._turn()
        except BaseException as error:
            self._problems.append(error)
        finally:
            self._up.set()
            self._close()

    def _turn(self) -> None:
        self._reactor.runUntilCurrent()
        wait = self._reactor.timeout()
        self._reactor.doIteration(0.05 if wait is None else min(0.05, wait))

    def _close(self) -> None:
        self._reactor.fireSystemEvent("shutdown")
        for selectable in self._reactor.removeAll():
            if hasattr(selectable, "abortConnection"):
                selectable.abortConnection()
        self._reactor._poller.close()

    def _parts(self) -> AdminParts:
        def no_stream(_actor: object, _parameters: Mapping[str, Any]) -> Any:
            raise AssertionError("no command opens a stream")

        def metrics(_accept: str) -> Deferred[tuple[str, bytes]]:
            raise AssertionError("no command reads the metrics")

        def secured(_tls: object, factory: Any) -> Any:
            return factory

        control: Any = StandInControl(self._reactor)
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
