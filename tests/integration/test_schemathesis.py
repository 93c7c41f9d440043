"""The admin API of a running proxy, asked by Schemathesis, which makes requests from its OpenAPI document."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path

import pytest

from esxiproxy.admin.openapi.operations import OPERATIONS, Role
from tests.support import config, issued_links
from tests.support.admin_people import BASE, OPERATOR, PASSWORDS, AdminClient, basic, port_of, section
from tests.support.crowd import Crew, EchoUpstream, Single
from tests.support.links import key_folder
from tests.support.programs import environment, need_python_program
from tests.support.websocket_peers import Client

LONG = os.environ.get("ESXIPROXY_LONG") == "1"
SECONDS = 900 if LONG else 45
"""Seconds for which requests are made up; those of the coverage phase are made in any case."""
EXAMPLES = 1000 if LONG else 15
"""Requests for each operation in a round of a phase."""
SETTINGS = "max-stream-events = 2\nrequest-timeout = 60\n"
"""The first two events of a stream come at once."""
NAME = "0"
"""The name of the user, the upstream and the listener: texts are ``0`` in requests of the coverage phase."""


@contextmanager
def visited(port: int) -> Iterator[None]:
    """Keep three consoles of the user ``0`` open, and one opening failing, until the block ends."""
    ending = threading.Event()

    def visit() -> None:
        clients: list[Client] = []
        while not ending.wait(0.05):
            clients = [client for client in clients if client.is_silent(0.01)]
            try:
                client = Client(port, timeout=5)
                fields = [("Authorization", basic(f"{NAME}:{NAME}"))]
                target = "/ticket/abc" if len(clients) < 3 else "/nothing"
                if client.ask(target, ["binary"], fields).status == 101:
                    clients.append(client)
                else:
                    client.close()
            except (OSError, AssertionError):
                continue  # while the listener is drained or replaced
        for client in clients:
            client.close()

    thread = threading.Thread(target=visit)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(30)


def text(upstream: EchoUpstream, folder: Path, workers: int) -> str:
    """Return a configuration with the names in the generated requests and in the document's examples."""
    visitors = config.authenticator("visitors", "htpasswd", file="visitors")
    listener = config.listener(
        NAME,
        upstream=None,
        router="links, one",
        authenticator="visitors",
        public_url=issued_links.PUBLIC_URL,
    )
    return (
        section(audit_log="audit.log")
        + visitors
        + config.ini(
            listener,
            config.upstream(upstream.port, NAME),
            config.template(verify="none"),
            issued_links.router(key_folder(folder), "links", locate="path:/c/{link}"),
            config.router("one", "static", more=f"match.tickets = path:/ticket/ -> {NAME}"),
            workers=workers,
            max_connections="off",
        )
    )


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("workers", [1, 2] if LONG else [1])  # a reload of two workers takes seconds
def test_no_request_finds_a_failure(workers: int, upstream: EchoUpstream, tmp_path: Path) -> None:
    """Examples, coverage, fuzzing and stateful, with all checks: each answer is as the document says."""
    program = need_python_program("schemathesis")
    files = {
        "people": PASSWORDS,
        "visitors": f"{NAME}:{{SHA}}{b64encode(sha1(NAME.encode()).digest()).decode()}\n",
    }
    with (Crew if workers > 1 else Single)(text(upstream, tmp_path, workers), files) as crew:
        port = port_of(crew)
        (tmp_path / "schemathesis.toml").write_text(SETTINGS)
        with visited(crew.ports[NAME]):
            done = subprocess.run(
                [
                    *(program, "run", f"http://127.0.0.1:{port}{BASE}/openapi.json"),
                    *("--header", f"Authorization: {basic(OPERATOR)}", "--header", "X-Esxiproxy: 1"),
                    *("--phases", "examples,coverage,fuzzing,stateful", "--checks", "all"),
                    *("--mode", "all", "--seed", "1", "--max-examples", str(EXAMPLES)),
                    *("--max-time", str(SECONDS), "--continue-on-failure"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=tmp_path,
                env=environment(COLUMNS="200"),
                timeout=SECONDS + 240,
                check=False,
            )
        assert done.returncode == 0, done.stdout
        made = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
        assert made is not None and made[1] == made[2] and int(made[1]) > 1000, done.stdout
        assert re.search(r"Tested: +20\b", done.stdout), done.stdout
        print(done.stdout)
        status = AdminClient(port, OPERATOR).get("/status")
        assert status["opened"] + status["failed"] > 0
        audit = map(json.loads, (crew.folder / "audit.log").read_text().splitlines())
        acted = {line["action"] for line in audit if line["outcome"] == "done"}
        assert acted == {operation.name for operation in OPERATIONS if operation.role is Role.OPERATOR}
        assert not re.search("Traceback|bug in", crew.log()), crew.log()
