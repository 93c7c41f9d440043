"""A stand-in for the admin service: it serves the page, and answers the API with data that tests change.

Each request and each answer is checked against the OpenAPI document.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import mimetypes
import select
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from jsonschema import Draft202012Validator

from esxiproxy.admin import page_library
from esxiproxy.admin.openapi.document import path_pattern
from esxiproxy.admin.openapi.operations import BASE, EVENTS, OPERATIONS, Operation, Role
from esxiproxy.admin.openapi.schemas import SCHEMAS, Schema, reference
from tests.support.admin_figures import Figures, Row, key_of

PAGE = page_library.FOLDER.parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
TURN = 0.2
"""Seconds between two looks at what has changed."""

_PATTERNS = [(operation, path_pattern(operation)) for operation in OPERATIONS]


@dataclass
class Seen:
    """A request of the page."""

    method: str
    path: str
    query: dict[str, str]
    fields: dict[str, str]
    body: Any = None
    sent: int = 0
    """Bytes of the answer's body so far."""
    open: bool = True


@dataclass
class AdminDouble:
    """A stand-in for the admin service.

    ``figures`` has its values, and ``seen`` its requests in their order.  ``failing`` is a status that every
    request of the API gets, or -1 for no answer.  With ``is_blind`` streams say that nothing can be read.
    """

    figures: Figures = field(default_factory=Figures)
    role: Role = Role.OPERATOR
    seen: list[Seen] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    has_library: bool = True
    failing: int = 0
    is_blind: bool = False
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def asked(self, path: str, method: str = "GET") -> list[Seen]:
        """Return the requests for a path under the base of the API."""
        return [seen for seen in list(self.seen) if (seen.method, seen.path) == (method, f"{BASE}{path}")]

    def check(self, schema: Schema, value: Any, what: str) -> None:
        """Note where a value does not fit its schema."""
        for error in _validator(schema).iter_errors(value):
            self.problems.append(f"{what}: {error.json_path}: {error.message}")


def _validator(schema: Schema) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": {"schemas": SCHEMAS}})


@contextlib.contextmanager
def admin_double(double: AdminDouble) -> Iterator[AdminDouble]:
    """Serve on a free port of 127.0.0.1."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        stopped = threading.Event()

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing: browsers close connections."""

    class Handler(_Handler):
        service = double
        stopped = Server.stopped

    server = Server(("127.0.0.1", 0), Handler)
    double.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield double
    finally:
        Server.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: AdminDouble
    stopped: threading.Event

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        seen = Seen(self.command, parts.path, dict(parse_qsl(parts.query)), dict(self.headers.items()))
        length = int(self.headers.get("Content-Length") or 0)
        seen.body = json.loads(self.rfile.read(length)) if length else None
        self.service.seen.append(seen)
        try:
            self._answer(seen)
        finally:
            seen.open = False

    def _answer(self, seen: Seen) -> None:
        if not seen.path.startswith(BASE):
            self._file(seen)
        elif self.service.failing < 0:
            self.close_connection = True
        elif self.service.failing:
            text = f"The state cannot be reached (status {self.service.failing})."
            self._send(seen, self.service.failing, "application/json", json.dumps({"error": text}).encode())
        elif seen.path == BASE + EVENTS.path:
            self._stream(seen)
        else:
            self._call(seen)

    def _file(self, seen: Seen) -> None:
        name = seen.path.strip("/") or "index.html"
        path = PAGE / name
        absent = not path.is_file() or (name.startswith("library/") and not self.service.has_library)
        if absent or ".." in name:
            self._send(seen, 404, "text/plain", b"not found\n")
        else:
            kind = (
                "text/javascript" if path.suffix == ".js" else mimetypes.guess_type(name)[0] or "text/plain"
            )
            self._send(seen, 200, kind, path.read_bytes())

    def _call(self, seen: Seen) -> None:
        service = self.service
        for operation, pattern in _PATTERNS:
            if operation.method == seen.method and (found := pattern.fullmatch(seen.path)):
                break
        else:
            service.problems.append(f"no operation: {seen.method} {seen.path}")
            return self._send(seen, 404, "application/json", b'{"error": "There is no such path."}')
        if operation.role is Role.OPERATOR:
            if seen.fields.get("X-Esxiproxy") != "1":
                service.problems.append(f"{operation.name}: no field of an action")
            if service.role is not Role.OPERATOR:
                return self._send(seen, 403, "application/json", b'{"error": "Only operators may do this."}')
        if operation.takes:
            service.check(reference(operation.takes), seen.body, f"body of {operation.name}")
        parameters = self._parameters(operation, {**seen.query, **found.groupdict()})
        status, answer = service.figures.call(operation.name, parameters, seen.body or {})
        if operation.name == "status":
            answer |= self._user()
        service.check(reference(operation.returns if status == 200 else "Error"), answer, operation.name)
        self._send(seen, status, "application/json", json.dumps(answer).encode())

    def _user(self) -> Row:
        return {"user": "staff/ada", "role": self.service.role.value}

    def _parameters(self, operation: Operation, given: dict[str, str]) -> dict[str, Any]:
        found = {
            each.name: each.schema["default"] for each in operation.parameters if "default" in each.schema
        }
        schemas = {each.name: each.schema for each in operation.parameters}
        for name, text in given.items():
            if name not in schemas:
                self.service.problems.append(f"{operation.name} has no parameter {name}")
                continue
            found[name] = int(text) if schemas[name]["type"] == "integer" else text
            self.service.check(schemas[name], found[name], f"{name} of {operation.name}")
        return found

    def _send(self, seen: Seen, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)
        seen.sent += len(body)

    def _stream(self, seen: Seen) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        window = self._parameters(EVENTS, seen.query)
        known: dict[str, Row] = {}
        last: Any = None
        due = 0.0
        told: Row = {}
        while not (self.stopped.is_set() or self.service.failing):
            if self.service.is_blind:
                if last != "blind":
                    self._event(seen, "unavailable", {"error": "The shared state cannot be reached."})
                last, told = "blind", {}
                if select.select([self.connection], [], [], TURN)[0]:
                    return  # the page has closed the stream
                continue
            page = self.service.figures.window(window)
            rows = {key_of(window["view"], row): row for row in page.rows}
            changed = {key: row for key, row in rows.items() if known.get(key) != row}
            head = {"view": window["view"], "total": page.total, "matching": page.matching}
            event = {**head, "offset": window["offset"], "order": list(rows)}
            if last is None:
                kind = {"sessions": "Session", "hosts": "Host", "failures": "Failure"}[window["view"]]
                for row in page.rows:
                    self.service.check(reference(kind), row, kind)
            if changed or event != last:
                self._event(seen, "window", {**event, "changed": changed})
                known, last = {key: dict(row) for key, row in rows.items()}, event
            if time.monotonic() >= due:
                status = self.service.figures.call("status", {}, {})[1]
                status |= self._user()
                self.service.check(reference("Status"), status, "event status")
                lasting = {name: value for name, value in status.items() if name != "now"}
                if lasting != told:
                    self._event(seen, "status", status)
                told, due = lasting, time.monotonic() + 1
            if select.select([self.connection], [], [], TURN)[0]:
                return  # the page has closed the stream

    def _event(self, seen: Seen, name: str, value: Any) -> None:
        octets = f"event: {name}\ndata: {json.dumps(value)}\n\n".encode()
        self.wfile.write(octets)
        self.wfile.flush()
        seen.sent += len(octets)


def page_files() -> list[Path]:
    """Return the files of the page that are part of the repository."""
    return sorted(
        path for path in PAGE.rglob("*") if path.is_file() and page_library.FOLDER not in path.parents
    )
