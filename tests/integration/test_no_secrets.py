"""No answer, event, metric or log line of a running proxy has a secret of a session."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from hashlib import sha1
from pathlib import Path
from urllib.parse import quote

import pytest

from esxiproxy.admin.openapi.operations import OPERATIONS, Role
from esxiproxy.cli.main import main
from tests.support import config, issued_links, programs
from tests.support.admin_people import BASE, OPERATOR, PASSWORDS, AdminClient, basic, port_of, section
from tests.support.certificates import Certificate
from tests.support.crowd import Crew, echoes
from tests.support.links import key_folder
from tests.support.programs import until
from tests.support.websocket_peers import Client, Connection, ScriptedUpstream

TICKET, COOKIE, TOKEN, QUERY = "cst-VCT-52fe-4b6a", "c00kie-9d41", "t0ken-77aa", "q4api-1b2c"
PASSWORD, WRONG = "Hunter2-pass", "Wr0ng-pass"
ORDERED, REASONED, COMMENT = "cst-VCT-0rdered", "cst-VCT-reas0ned", "c0mment-33cc"
LOGIN = f"alice:{PASSWORD}"
FIELDS = [("Cookie", f"sid={COOKIE}"), ("X-Auth-Token", TOKEN)]
TARGET = f"/ticket/{TICKET}?api_key={QUERY}"
OPEN = 4
"""Consoles that are open while everything is read."""


def host(connection: Connection) -> None:
    """Accept consoles, refuse those that ask for it with the ticket in the answer, and repeat frames."""
    request = connection.read_request()
    if "refuse" in request.line:
        fields = [("Content-Length", str(len(TICKET))), ("Connection", "close"), ("X-Ticket", TICKET)]
        connection.send_head(f"404 No {TICKET}", fields, TICKET.encode())
        connection.close()
        return
    if "crash" in request.line:
        connection.drop()
        return
    connection.accept("binary")
    connection.serve()


def text(upstream: int, certificate: Certificate, folder: Path) -> str:
    admin = section(audit_log="audit.log")
    visitors = config.authenticator("visitors", "htpasswd", more=f"; {COMMENT}", file="visitors")
    routers = [
        issued_links.router(key_folder(folder), "issued", locate="path:/c/{link}"),
        issued_links.router(folder / "keys", "hidden", locate="query:link", opaque=True),
        config.router("rest", "static", more="match.tickets = path:/ticket -> esxi1"),
    ]
    listener = config.listener(
        upstream=None,
        router="issued, hidden, rest",
        authenticator="visitors",
        public_url=issued_links.PUBLIC_URL,
    )
    return (
        admin
        + visitors
        + config.ini(
            listener,
            *routers,
            config.upstream(upstream, pin=certificate),
            config.template(verify="pin"),
            workers=2,
            state="sqlite:state.sqlite",
            access_log="access.log",
            session_log="all",
            max_sessions_per_console="off",
        )
    )


class Scene:
    """A proxy with sessions whose secrets are known."""

    def __init__(self, crew: Crew, people: AdminClient, probe: int, upstream: int, pin: str) -> None:
        self.crew, self.people, self.probe, self.upstream, self.pin = crew, people, probe, upstream, pin
        self.secrets = [
            programs.TICKET,
            TICKET,
            COOKIE,
            TOKEN,
            QUERY,
            PASSWORD,
            WRONG,
            ORDERED,
            REASONED,
            COMMENT,
        ]
        self.secrets += [COMMENT]
        self.secrets += [b64encode(login.encode()).decode() for login in (LOGIN, f"alice:{WRONG}", OPERATOR)]
        self.consoles: list[Client] = []

    def connect(self) -> Client:
        return Client(self.crew.ports["one"], timeout=30)

    def ask(self, target: str, login: str = LOGIN) -> int:
        """Return the status of an opening handshake with all secrets; an open console stays."""
        client = self.connect()
        head = client.ask(target, ["binary"], [*FIELDS, ("Authorization", basic(login))])
        if head.status == 101:
            assert echoes(client, TICKET.encode())
            self.consoles.append(client)
        else:
            client.close()
        return head.status

    def run_sessions(self) -> None:
        assert self.ask(TARGET) == self.ask(TARGET) == 101
        for router in ("issued", "hidden"):
            link = issued_links.link(self.crew.path, self.upstream, "--pin", self.pin, router=router)
            self.secrets.append(link.target.rpartition("/" if router == "issued" else "=")[2])
            assert self.ask(link.target) == 101
            assert self.ask(link.target) == 404, "it works once"
        assert self.ask(f"/ticket/refuse/{TICKET}") == 404
        assert self.ask(f"/ticket/crash/{TICKET}") == 502
        assert self.ask(f"/{TICKET}/ticket/{TICKET}") == 404
        assert self.ask(TARGET, f"alice:{WRONG}") == 401
        for octets in (
            f"GET {TARGET} {TICKET} HTTP/1.1\r\nHost: a\r\n\r\n",
            f"POST {TARGET} HTTP/1.1\r\nHost: a\r\nContent-Length: {TICKET}\r\n\r\n{TICKET}",
            f"GET {quote(TARGET)} HTTP/1.1\r\nHost: a\r\nCookie: sid={COOKIE}\r\nX-Bad\r\n\r\n",
        ):
            with self.connect() as client:
                client.send_raw(octets.encode())
                client.recv_eof()

    def act(self) -> None:
        """Do every action, with a ticket wherever one may be."""
        rows = self.people.get("/sessions")["sessions"]
        link = next(row["link"] for row in rows if row["link"])
        reason = f"see https://esxi1/ticket/{REASONED}?token={TOKEN}"
        order = {"router": "hidden", "to": f"127.0.0.1/ticket/{ORDERED}", "pins": [self.pin]}
        bodies = [
            ("/check", {"reason": reason}),
            ("/drain", {"kind": "host", "name": "esxi9", "reason": reason}),
            ("/drain", {"kind": "listener", "name": "one", "reason": reason}),
            ("/undrain", {"kind": "listener", "name": "one", "reason": reason}),
            (
                "/links",
                {
                    "router": "hidden",
                    "to": f"127.0.0.1/ticket/{ORDERED}",
                    "pins": [self.pin],
                    "reason": reason,
                },
            ),
            ("/links", {**order, "to": f"not a host/ticket/{ORDERED}"}),
            ("/links/revoke", {"id": link, "reason": reason}),
            ("/kill", {"kind": "session", "value": rows[-1]["id"], "reason": reason}),
            ("/kill", {"kind": "session", "value": f"/ticket/{REASONED}", "reason": reason}),
            ("/reload", {"reason": reason}),
        ]
        for path, body in bodies:
            answer = self.people.ask("POST", BASE + path, body)
            assert answer.status in (200, 404, 409), answer
            if path == "/links" and answer.status == 200:  # the one answer that has a link
                made = answer.value
                self.secrets.append(made["url"].rpartition("=")[2])
                assert ORDERED not in answer.body and made["field"] is None
            else:
                self.check(path, answer.body)

    def check(self, what: str, shown: str) -> None:
        """Fail if a text has a secret."""
        for secret in self.secrets:
            assert secret not in shown and quote(secret, safe="") not in shown, (what, secret, shown)

    def check_answers(self) -> None:
        """Check every answer to a GET, and the beginning of each event stream."""
        (first, *_) = self.people.get("/sessions")["sessions"]
        paths = [
            BASE + operation.path.replace("{id}", first["id"])
            for operation in OPERATIONS
            if operation.role is Role.VIEWER
        ]
        for path in (*paths, f"{BASE}/openapi.json", "/", "/metrics", "/healthz", "/readyz"):
            answer = self.people.ask("GET", path)
            assert answer.status == 200, (path, answer)
            self.check(path, answer.body)
        metrics = AdminClient(self.probe).ask(
            "GET", "/metrics", fields={"Accept": "application/openmetrics-text"}
        )
        assert "esxiproxy_sessions_opened_total" in metrics.body
        self.check("OpenMetrics", metrics.body)
        for view in ("sessions", "hosts", "failures"):
            with Client(self.people.port, timeout=30) as client:
                client.get(f"{BASE}/events?view={view}", ("Authorization", basic(OPERATOR)))
                head = client.recv_until(b"event: window\n")
                rows = client.recv_until(b"\n\n")
            assert view.encode() in rows and b'"total":0' not in rows, (head, rows)
            self.check(f"events of {view}", (head + rows).decode())

    def check_commands(self) -> None:
        for command in ("status", "sessions", "hosts", "links"):
            for options in ([], ["--json"]):
                with redirect_stdout(io.StringIO()) as said, redirect_stderr(said):
                    status = main([command, "--config", str(self.crew.path), *options])
                assert status == 0 and said.getvalue(), (command, said.getvalue())
                self.check(f"esxiproxy {command}", said.getvalue())

    def check_lines(self) -> None:
        """Check the audit log, the access log, and the output of all processes."""
        audit = (self.crew.folder / "audit.log").read_text()
        acted = {line["action"] for line in map(json.loads, audit.splitlines())}
        assert acted == {operation.name for operation in OPERATIONS if operation.role is Role.OPERATOR}
        access = (self.crew.folder / "access.log").read_text()
        assert access.count("\n") > 8 and "WorkerLost" not in access
        log = self.crew.log()
        assert log.count("/ticket/***") > 4
        for name, shown in {"audit log": audit, "access log": access, "twistd's log": log}.items():
            self.check(name, shown)


@pytest.fixture
def scene(upstream_certificate: Certificate, tmp_path: Path) -> Iterator[Scene]:
    visitors = f"alice:{{SHA}}{b64encode(sha1(PASSWORD.encode()).digest()).decode()}\n"
    with ExitStack() as stack:
        upstream = stack.enter_context(ScriptedUpstream(host, tls=upstream_certificate.server_context()))
        content = text(upstream.port, upstream_certificate, tmp_path)
        crew = stack.enter_context(Crew(content, {"people": PASSWORDS, "visitors": visitors}))
        port, probe = port_of(crew), port_of(crew, "probe_listen")
        scene = Scene(
            crew, AdminClient(port, OPERATOR), probe, upstream.port, f"sha256:{upstream_certificate.sha256}"
        )
        yield scene
        for client in scene.consoles:
            client.close()


def test_no_secret_is_shown(scene: Scene) -> None:
    """The test looks while sessions are open, after each action, and after all sessions have ended."""
    scene.run_sessions()
    assert len(scene.consoles) == OPEN
    until(lambda: len(scene.people.get("/sessions")["sessions"]) == OPEN, "the consoles are listed")
    until(lambda: scene.people.get("/failures")["total"] >= 6, "the failures are listed")
    scene.check_answers()
    scene.check_commands()
    scene.act()
    until(lambda: scene.people.get("/links")["links"], "the revoked link is listed")
    scene.check_answers()
    scene.check_commands()
    for client in scene.consoles:
        client.close()
    assert scene.crew.stop(20) == 0
    scene.check_lines()
