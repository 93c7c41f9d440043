"""How the terminal commands find the running proxy, and their sentence when they cannot."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from esxiproxy.cli import admin_client
from esxiproxy.cli.main import main
from tests.support import admin_rows as rows
from tests.support.commands import ESXIPROXY, NOBODY, as_user
from tests.support.processes import ROOT_ONLY
from tests.support.programs import ROOT, environment
from tests.support.running_admin import RunningAdmin, paged

Capture = pytest.CaptureFixture[str]


@contextlib.contextmanager
def peer(path: Path, answer: bytes) -> Iterator[None]:
    """Run a program on a unix socket that reads a request, sends these bytes, and closes."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(10)

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join(10)


def said(capsys: Capture, *arguments: str) -> str:
    """Return the sentence of a command that cannot reach the proxy."""
    assert main(["sessions", "--now", *arguments]) == 3
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("esxiproxy sessions: ") and err.count("\n") == 1
    return err


def test_a_socket_that_does_not_exist(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "admin.sock"
    text = said(capsys, "--socket", str(path))
    assert f"{path} does not exist: the proxy is not running, or runs without [admin]" in text


def test_a_socket_that_a_killed_proxy_has_left(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert "belongs to no running process: start the proxy" in said(capsys, "--socket", str(path))


def test_a_file_that_is_no_socket(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "proxy.ini"
    path.write_text("[admin]\n")
    assert f"{path} is no socket" in said(capsys, "--socket", str(path))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "failed: Remote end closed connection without response; see the log of the proxy"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", r"failed: SSH-2.0-OpenSSH_9.2\x0d\x0a; see"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n<p>", "gave no JSON: it is no socket of this proxy"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[", "failed: IncompleteRead"),
    ],
    ids=["silent", "ssh", "web server", "torn"],
)
def test_a_socket_of_another_program(answer: bytes, text: str, tmp_path: Path, capsys: Capture) -> None:
    with peer(tmp_path / "other.sock", answer):
        found = said(capsys, "--socket", str(tmp_path / "other.sock"))
    assert text.replace(r"\x0d\x0a", "\\r\\n") in found


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": "no\\u001b[2J"}', r"no\x1b[2J"),
        (b"[]", "the answer has the status 500"),
        (b'{"error": 0}', "the answer has the status 500"),
    ],
)
def test_an_error_of_any_shape_is_escaped(body: bytes, text: str, tmp_path: Path, capsys: Capture) -> None:
    head = b"HTTP/1.1 500 Oops\r\nContent-Length: %d\r\n\r\n" % len(body)
    with peer(tmp_path / "admin.sock", head + body):
        assert main(["hosts", "--socket", str(tmp_path / "admin.sock")]) == 1
    assert text in capsys.readouterr().err


def test_a_proxy_that_does_not_answer(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_client.AdminClient.__init__, "__defaults__", (0.1,))
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "admin.sock"))
        silent.listen()
        text = said(capsys, "--socket", str(tmp_path / "admin.sock"))
    assert "gave no answer within 0.1 s: see the log of the proxy" in text


# The configuration


@pytest.fixture
def folder(admin: RunningAdmin, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder with the socket, as the working directory."""
    admin.answers["list_sessions"] = paged("sessions", [rows.session()])
    monkeypatch.chdir(admin.path.parent)
    return admin.path.parent


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("here.ini", "[admin]\nsocket = admin.sock\n"),
        ("conf/there.ini", "[admin]\nsocket = ../admin.sock ; beside it\n"),
        ("broken.ini", "[admin]\nsocket = admin.sock\nno_such_key = 1\n[listener\nrubbish\n"),
    ],
)
def test_the_configuration_names_the_socket(name: str, text: str, folder: Path, capsys: Capture) -> None:
    """The path is relative to the configuration's folder. The rest of the file may be invalid."""
    (folder / "conf").mkdir()
    (folder / name).write_text(text)
    assert main(["sessions", "--config", name]) == 0
    assert "1 open console" in capsys.readouterr().out


def test_the_socket_without_a_key_is_beside_the_configuration(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esxiproxy.core.config.admin.RUNTIME_FOLDER", folder / "no-such-folder")
    (folder / "proxy.ini").write_text("[admin]\n")
    assert main(["sessions", "--config", "proxy.ini"]) == 0


def test_without_options_it_is_that_of_conf_or_of_the_service(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_client, "RUNTIME_FOLDER", folder)
    assert main(["sessions"]) == 0
    assert capsys.readouterr().out
    (folder / "conf").mkdir()
    (folder / "conf/proxy.ini").write_text("[admin]\nsocket = ../other.sock\n")
    assert f"{folder}/other.sock does not exist" in said(capsys)


def test_a_configuration_without_admin(folder: Path, capsys: Capture) -> None:
    (folder / "proxy.ini").write_text("[proxy]\n")
    text = said(capsys, "--config", "proxy.ini")
    assert "proxy.ini has no section [admin]: add the line [admin] and reload the proxy" in text


def test_a_configuration_that_cannot_be_read(folder: Path, capsys: Capture) -> None:
    text = said(capsys, "--config", "none.ini")
    assert "none.ini cannot be read: No such file or directory; name the socket of the proxy with" in text


# Other users, and pipes


@ROOT_ONLY
def test_a_user_who_may_not_open_the_socket() -> None:
    """A sentence without a traceback, and what to do."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        with RunningAdmin(Path(name) / "admin.sock") as admin:
            done = as_user(NOBODY, [], "sessions", "--socket", str(admin.path))
            assert (done.returncode, done.stdout, admin.seen) == (3, "", [])
            assert done.stderr == (
                f"esxiproxy sessions: {admin.path} may not be opened by you: run this as root or as the user "
                "of the proxy, or let your group in with socket_group in [admin]\n"
            )


def test_a_reader_that_ends_early_is_no_error(admin: RunningAdmin) -> None:
    """The reader ends as in `esxiproxy sessions | head -1`, with more output than a pipe holds."""
    many = [rows.session(number) for number in range(1, 3001)]
    admin.answers["list_sessions"] = paged("sessions", many)
    line = " ".join(["sessions", "--now", "--socket", str(admin.path)])
    code = f"'{sys.executable}' -c '{ESXIPROXY[2]}' {line} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment(PYTHONPATH=str(ROOT)),
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[0].startswith("session ") and done.stdout.splitlines()[1] == "0"


def test_a_terminal_without_all_letters(admin: RunningAdmin) -> None:
    admin.answers["list_sessions"] = paged("sessions", [rows.session(principal="Zoë三")])
    done = subprocess.run(
        [*ESXIPROXY, "sessions", "--socket", str(admin.path)],
        capture_output=True,
        timeout=60,
        check=True,
        env=environment(PYTHONPATH=str(ROOT), PYTHONIOENCODING="latin-1"),
    )
    assert b"Zo\xeb\\u4e09" in done.stdout


def test_a_command_line_that_is_not_utf_8(admin: RunningAdmin, capsys: Capture) -> None:
    """The shell passes any bytes, and the proxy refuses them as wrong usage."""
    admin.answers["list_sessions"] = paged("sessions", [])
    status = main(["sessions", "--now", "--user", os.fsdecode(b"\xff"), "--socket", str(admin.path)])
    assert status in (1, 2)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["sessions --now", "hosts", "drain", "links"])
def test_an_older_proxy_whose_answer_lacks_a_field(tmp_path: Path, capsys: Capture, command: str) -> None:
    """The command ends with a sentence."""
    path, name = tmp_path / "admin.sock", command.split()[0]
    page = json.dumps({f"{name.removesuffix('s')}s": [{"id": "1"}], "total": 1, "matching": 1, "offset": 0})
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(page)}\r\n\r\n{page}"
    with peer(path, answer.encode()):
        assert main([*command.split(), "--socket", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"esxiproxy {name}: the proxy is older than this command")
    assert err.endswith(": use the command of the proxy's version\n")
