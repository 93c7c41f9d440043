"""`esxiproxy doctor`: arguments, output and exit statuses."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from esxiproxy.cli import doctor
from esxiproxy.cli.main import main
from tests.support.broken_host import SECRET, TARGET, examine
from tests.support.programs import free_port
from tests.support.scripts import sends
from tests.support.websocket import BINARY, frame
from tests.support.websocket_peers import ScriptedUpstream

ROOT = Path(__file__).resolve().parents[2]


def test_help_lists_the_exit_statuses() -> None:
    """Every status with its step."""
    parser = argparse.ArgumentParser(prog="esxiproxy doctor")
    doctor.add_arguments(parser)
    text = parser.format_help()
    for line in ("10  DNS", "11  TCP", "12  TLS", "13  handshake", "14  subprotocol", "15  first frame"):
        assert line in text


@pytest.mark.parametrize(
    "options",
    [
        ["--timeout", "0"],
        ["--timeout", "nan"],
        ["--pin", "sha256:zz"],
        ["--ca", "/nowhere.pem"],
        ["--subprotocol", "none", "--subprotocol", "binary"],
        ["--subprotocol", "a b"],
    ],
)
def test_wrong_usage(options: list[str]) -> None:
    """2, with the reason on standard error, before the ticket is spent."""
    parser = argparse.ArgumentParser(prog="esxiproxy doctor")
    doctor.add_arguments(parser)
    arguments = parser.parse_args([*options, f"ws://127.0.0.1:{free_port()}{TARGET}"])
    assert doctor.run(arguments) == 2


def test_a_wrong_url_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    """2, and the ticket in it stays hidden."""
    outcome = examine(f"http://esxi1{TARGET}")
    assert outcome.status == 2 and outcome.out == ""
    assert "begins with http://; use ws:// for a WebSocket" in outcome.err


def test_the_report_says_that_the_ticket_is_spent() -> None:
    """A URL without a ticket has no such sentence, and one on standard input is in no process list."""
    port = free_port()
    told = examine(f"ws://127.0.0.1:{port}{TARGET}")
    assert "this uses up the ticket" in told.err and "process list" not in told.err
    assert examine(f"ws://127.0.0.1:{port}/console").err == ""


def test_the_output_for_a_person() -> None:
    """A line a step with its time, what was seen under it, and a conclusion; nothing of the ticket."""
    with ScriptedUpstream(sends(frame(BINARY, b"RFB 003.008\n"))) as server:
        outcome = examine(f"ws://127.0.0.1:{server.port}{TARGET}", json_out=False)
    lines = outcome.out.splitlines()
    assert outcome.status == 0
    assert lines[0] == f"ws://127.0.0.1:{server.port}/ticket/***"
    assert lines[-1] == "All steps succeeded: this console opens."
    assert any(line.startswith("ok      first frame, ") and "RFB 003.008" in line for line in lines)
    assert "         rfb = 003.008" in lines


def test_the_conclusion_of_a_failure() -> None:
    """Which step, why, and what was not tried."""
    outcome = examine(f"wss://127.0.0.1:{free_port()}{TARGET}", json_out=False)
    assert outcome.out.splitlines()[-1].startswith(
        "The console fails at tcp: 127.0.0.1 refused the connection"
    )
    assert outcome.out.splitlines()[-1].endswith(
        "Not tried: tls, handshake, subprotocol, first frame, ping, close."
    )
    assert "not_tried" in examine(f"wss://127.0.0.1:{free_port()}{TARGET}").report


def test_the_url_from_standard_input_of_a_process() -> None:
    """With `-`, the process list and both streams have no ticket."""
    code = (
        "import argparse, sys; from esxiproxy.cli import doctor; parser = argparse.ArgumentParser(); "
        "doctor.add_arguments(parser); sys.exit(doctor.run(parser.parse_args()))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "--json", "-"],
        input=f"ws://127.0.0.1:{free_port()}{TARGET}\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert run.returncode == 11
    assert json.loads(run.stdout)["failed"] == "tcp"
    assert SECRET not in run.stdout + run.stderr


def test_the_command_knows_doctor_and_sim(capsys: pytest.CaptureFixture[str]) -> None:
    """`esxiproxy doctor` and `esxiproxy sim` come here."""
    assert main(["doctor", f"ws://127.0.0.1:{free_port()}{TARGET}"]) == 11
    assert "esxiproxy doctor: this uses up the ticket" in (told := capsys.readouterr()).err
    assert "process list" in told.err and SECRET not in told.err + told.out
    assert main(["sim", "--port", "none", "--tls-port", "none"]) == 2
