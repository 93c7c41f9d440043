"""`esxiproxy doctor --config`: arguments, output, exit statuses and Ctrl-C."""

from __future__ import annotations

import argparse
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from esxiproxy.cli import doctor
from tests.support.config import ini, listener, router, template, upstream
from tests.support.examined_config import examine_config
from tests.support.peer import NotInTime
from tests.support.programs import ROOT, environment, free_port
from tests.support.scripts import refuse
from tests.support.websocket_peers import Connection, ScriptedUpstream

PROGRAM = "import sys; from esxiproxy.cli.main import main; sys.exit(main())"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "proxy.ini"


def test_help_has_the_options_and_the_exit_statuses() -> None:
    parser = argparse.ArgumentParser(prog="esxiproxy doctor")
    doctor.add_arguments(parser)
    text = parser.format_help()
    for words in ("--config FILE", "--parallel N", "--user NAME", "--strict", "--timeout SECONDS"):
        assert words in text
    for line in ("0    nothing prevents consoles", "1    a finding prevents consoles", "130  Ctrl-C"):
        assert line in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["ws://127.0.0.1/"], "name either the URL of a console, or a configuration"),
        (["--pin", "sha256:" + "ab" * 32], "--pin only with a URL"),
        (["--insecure"], "--insecure only with a URL"),
        (["--tls-profile", "old"], "--tls-profile only with a URL"),
        (["--timeout", "0"], "--timeout must be above 0"),
        (["--parallel", "0"], "must be a number from 1 to 256"),
        (["--parallel", "257"], "must be a number from 1 to 256"),
        (["--user", "no-such-user"], "no user 'no-such-user' on this machine"),
    ],
)
def test_wrong_usage(file: Path, options: list[str], words: str) -> None:
    """2, with the reason on standard error."""
    file.write_text(ini(listener(), upstream(free_port())))
    examined = examine_config(file, *options)
    assert (examined.status, examined.out) == (2, "")
    assert words in examined.err


@pytest.mark.parametrize("options", [["--strict"], ["--user", "root"], ["--parallel", "3"]])
def test_options_of_a_configuration_are_none_of_a_url(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser(prog="esxiproxy doctor")
    doctor.add_arguments(parser)
    assert doctor.run(parser.parse_args([*options, f"ws://127.0.0.1:{free_port()}/"])) == 2
    assert f"{options[0]} only with --config" in capsys.readouterr().err


def test_neither_a_url_nor_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="esxiproxy doctor")
    doctor.add_arguments(parser)
    assert doctor.run(parser.parse_args([])) == 2
    assert (
        "name either the URL of a console, or a configuration with --config FILE" in capsys.readouterr().err
    )


def test_a_configuration_with_errors(file: Path) -> None:
    """1, with the problems that `check` reports, in both forms."""
    file.write_text(ini(listener(), upstream(9, connect_timeout="fast")))
    examined = examine_config(file)
    (row,) = examined.rows
    assert (examined.status, row["check"], row["verdict"]) == (1, "configuration", "error")
    assert (row["section"], row["name"]) == ("upstream esxi1", "connect_timeout")
    assert row["address"].startswith(f"{file}:") and "is no duration" in row["finding"]
    assert "so no host was checked" in examined.err
    assert "[upstream esxi1] connect_timeout" in examine_config(file, json_out=False).out


def test_a_file_that_does_not_exist(file: Path) -> None:
    examined = examine_config(file)
    assert examined.status == 1 and examined.rows[0]["finding"] == "no such file"


def test_warnings_fail_with_strict_only(file: Path) -> None:
    """Here a warning of `check` and one about a limit."""
    with ScriptedUpstream(refuse("200 OK")) as server:
        file.write_text(ini(listener(proxy_protocol=True), upstream(server.port, max_connections="off")))
        examined = examine_config(file)
        assert examined.status == 0
        assert {(row["check"], row["verdict"]) for row in examined.rows} >= {
            ("configuration", "warning"),
            ("limit", "warning"),
            ("host", "ok"),
        }
        assert examine_config(file, "--strict").status == 1


def test_the_table(file: Path) -> None:
    """The worst first, and a summary in the last line."""
    with ScriptedUpstream(refuse("200 OK")) as server:
        dead = free_port()
        file.write_text(
            ini(listener(), upstream(server.port), upstream(dead, "dead"), upstream(server.port, "again"))
        )
        examined = examine_config(file, json_out=False)
    header, first, *_others, last = examined.out.splitlines()
    assert header.startswith("VERDICT")
    assert first.startswith("error") and f"127.0.0.1:{dead}" in first
    assert last.startswith(f"{file}: 3 hosts: 2 ok, 1 error; ")
    assert examined.status == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
def test_root_gets_a_note_that_it_may_use_every_file(file: Path) -> None:
    file.write_text(ini(listener(), upstream(free_port())))
    assert "name the user that runs the proxy with --user" in examine_config(file).err
    assert "--user" not in examine_config(file, "--user", "nobody").err


def hangs(connection: Connection) -> None:
    """Accept the connection and say nothing until it ends."""
    try:
        connection.recv_eof(60)
    except (NotInTime, OSError):
        return


def start(file: Path, *options: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "doctor", "--config", str(file), *options],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        cwd=ROOT,
        env=environment(PYTHONPATH=str(ROOT)),
    )


def fleet(file: Path, *addresses: str) -> None:
    """Write a configuration with an inventory of these addresses."""
    rows = [f"esx{number},ws://{address}" for number, address in enumerate(addresses)]
    file.with_name("hosts.csv").write_text("\n".join(["name,address", *rows, ""]))
    keys = {"file": "hosts.csv", "template": "esxi", "locate": "path:/h/{host}/", "allow": "127.0.0.0/8"}
    file.write_text(
        ini(
            listener(upstream=None, router="fleet"),
            router("fleet", "inventory", **keys),
            template(max_connections=9),
        )
    )


def test_ctrl_c_prints_what_is_known(file: Path) -> None:
    """One host has answered and three hang: the status is 130, with the first host's result."""
    controlling, terminal = pty.openpty()
    with ScriptedUpstream(refuse("200 OK")) as good, ScriptedUpstream(hangs) as hanging:
        fleet(file, f"127.0.0.1:{good.port}", *[f"127.0.0.1:{hanging.port}"] * 3)
        process = start(file, "--json", "--timeout", "50", "--parallel", "4", stderr=terminal)
        os.close(terminal)
        shown = ""
        while "1 of 4 hosts" not in shown:
            shown += os.read(controlling, 4096).decode()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        shown += read_all(controlling)
    assert process.returncode == 130
    (row,) = [row for row in json.loads(out) if row["check"] == "host"]
    assert (row["name"], row["verdict"]) == ("esx0", "ok")
    assert "interrupted, 3 hosts were not checked" in shown
    assert "Traceback" not in shown


def test_a_terminal_gets_a_progress_bar_and_a_pipe_none(file: Path) -> None:
    """The bar is on standard error, so that standard output has only the table."""
    with ScriptedUpstream(refuse("200 OK")) as server:
        fleet(file, *[f"127.0.0.1:{server.port}"] * 5)
        controlling, terminal = pty.openpty()
        process = start(file, stderr=terminal)
        out, _ = process.communicate(timeout=60)
        os.close(terminal)
        shown = read_all(controlling)
        assert "] 5 of 5 hosts" in shown and shown.endswith("\r\x1b[K")
        assert "\r" not in out and out.count("\n") >= 7
        piped = start(file)
        _, err = piped.communicate(timeout=60)
    assert "\r" not in err


def read_all(descriptor: int) -> str:
    """Return all output of a terminal whose other side is closed."""
    octets = b""
    try:
        while more := os.read(descriptor, 4096):
            octets += more
    except OSError:  # EIO is the end
        pass
    finally:
        os.close(descriptor)
    return octets.decode()
