"""The operations, names and examples of docs/admin.md are those of the code."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from esxiproxy.admin.audit import MAX_REFUSALS, WRITE_TIMEOUT
from esxiproxy.admin.openapi.document import document
from esxiproxy.admin.openapi.operations import EVENTS, OPERATIONS
from esxiproxy.admin.openapi.schemas import MAX_PAGE, MAX_REASON
from esxiproxy.admin.site import MAX_STREAMS
from esxiproxy.cli.main import NAMES, main
from tests.support import admin_rows as rows
from tests.support.programs import ROOT, need
from tests.support.running_admin import RunningAdmin, paged

PAGE = (ROOT / "docs" / "admin.md").read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())


def section(heading: str) -> str:
    """Return the text under a heading."""
    return PAGE.partition(f"\n{heading}\n")[2].partition("\n## ")[0]


def test_the_page_has_every_operation_and_no_other() -> None:
    found = set()
    for line in section("## API").splitlines():
        if row := re.match(r"\| (`/.*?) \| (GET|POST) \|", line):
            found |= {(row[2], path) for path in re.findall(r"`(/[^`]+)`", row[1])}
    assert found == {(operation.method, operation.path) for operation in (*OPERATIONS, EVENTS)}


def test_the_page_has_every_status_of_an_error() -> None:
    answers = {
        status
        for path in document()["paths"].values()
        for operation in path.values()
        for status in operation["responses"]
    }
    table = section("## API").partition("| status | meaning |")[2].partition("###")[0]
    assert set(re.findall(r"\b[45]\d\d\b", table)) | {"200"} == answers


@pytest.mark.parametrize(
    "said",
    [
        f"`limit` ({MAX_PAGE} at most)",
        f"A reason is up to {MAX_REASON} characters",
        f"At most {MAX_STREAMS} streams",
        f"at most {MAX_REFUSALS} of them are written in a second",
        f"cannot be written within {WRITE_TIMEOUT:g} s",
    ],
)
def test_the_page_has_the_figures_of_the_code(said: str) -> None:
    assert said in WORDS


def test_the_commands_of_the_page_exist() -> None:
    named = set(re.findall(r"esxiproxy ([a-z]+)", " ".join(re.findall(r"`[^`]+`|^    .*$", PAGE, re.M))))
    assert named - {"status"} and named <= set(NAMES)


def test_the_audit_log_has_the_names_of_the_page(tmp_path: Path) -> None:
    with RunningAdmin(tmp_path / "admin.sock", tmp_path / "audit.log") as admin:
        admin.answers["kill"] = ValueError("a bug")
        assert main(["kill", "--user", "alice", "--reason", "x", "--socket", str(admin.path)]) == 1
    begun, failed = map(json.loads, (tmp_path / "audit.log").read_text().splitlines())
    table = section("## Audit log").partition("| name | value |")[2]
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == list(failed)
    examples = re.findall(r"\{.*?\}(?=\n)", section("## Audit log"), re.S)
    assert [list(json.loads(text)) for text in examples] == [list(begun)] * 2
    assert (begun["outcome"], failed["outcome"]) == ("begun", "failed")


def test_the_examples_with_curl_work(tmp_path: Path) -> None:
    """Each is answered by the service on a unix socket."""
    curl = need("curl", "curl")
    block = section("## API").replace("\\\n", "")
    lines = [line.strip() for line in block.splitlines() if line.startswith("    ")]
    commands = [line for line in lines if line.startswith("curl ") and "/events" not in line]
    with RunningAdmin(tmp_path / "admin.sock", tmp_path / "audit.log") as admin:
        admin.answers |= {
            "status": rows.status(),
            "list_sessions": paged("sessions", [rows.session()]),
            "kill": {"sessions": 3},
        }
        answers = []
        for command in commands:
            text = command.replace("curl ", f"'{curl}' ", 1).replace("$S", f"--unix-socket '{admin.path}'")
            done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, timeout=60, check=True)
            answers.append(json.loads(done.stdout))
        assert [name for name, _call in admin.seen] == ["status", "list_sessions", "kill"]
    assert answers[0] == document() and answers[3] == {"sessions": 3}
    assert all("error" not in answer for answer in answers) and len(answers) == 4
