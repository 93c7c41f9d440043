"""systemd accepts the units of deploy/systemd, and what the documentation says of it works."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from esxiproxy.core.config.admin import RUNTIME_FOLDER
from tests.support import config as ini
from tests.support.programs import ROOT, need

UNITS = ROOT / "deploy" / "systemd"
BIN = Path(sys.executable).parent
SYSTEMD_PAGE = (ROOT / "docs/systemd.md").read_text(encoding="utf-8")


@pytest.fixture
def units(tmp_path):
    """Write the units with programs of this environment, because systemd checks that they exist."""
    folder = tmp_path / "units"
    folder.mkdir()
    for file in UNITS.glob("esxiproxy.*"):
        text = file.read_text().replace("/opt/esxiproxy/bin/", f"{BIN}/")
        (folder / file.name).write_text(text)
    return folder


@pytest.mark.parametrize("names", [["esxiproxy.service"], ["esxiproxy.socket", "esxiproxy.service"]])
def test_systemd_takes_the_units(units, names):
    analyze = need("systemd-analyze", "systemd")
    found = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", *(str(units / name) for name in names)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_systemd_calls_the_service_well_protected(units):
    analyze = need("systemd-analyze", "systemd")
    found = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=19", str(units / "esxiproxy.service")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "offline" in found.stderr:
        pytest.skip("systemd-analyze before 250 has no --offline")
    assert found.returncode == 0, found.stdout + found.stderr
    exposure = re.search(r"Overall exposure level for esxiproxy.service: ([0-9.]+)", found.stdout)
    assert exposure is not None and float(exposure[1]) < 2.0, found.stdout


def test_the_service_starts_without_a_credential_and_has_a_folder_for_the_admin_socket():
    text = (UNITS / "esxiproxy.service").read_text()
    assert re.findall(r"^LoadCredential=(.*)$", text, re.MULTILINE) == ["esxiproxy.tls.key"], (
        "no absolute path"
    )
    assert "${CREDENTIALS_DIRECTORY}/esxiproxy.tls.key" in text
    assert "    private_key = ${CREDENTIALS_DIRECTORY}/esxiproxy.tls.key\n" in SYSTEMD_PAGE
    folders = re.findall(r"^RuntimeDirectory=(.*)$", text, re.MULTILINE)
    assert [Path("/run") / name for name in folders] == [RUNTIME_FOLDER]


def test_with_credentials_a_reload_is_the_signal_alone(units):
    """The check could not read them, and would make each reload fail."""
    analyze = need("systemd-analyze", "systemd")
    folder = units / "esxiproxy.service.d"
    folder.mkdir()
    drop_in = (UNITS / "credentials.conf").read_text()
    (folder / "credentials.conf").write_text(drop_in)
    found = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", str(units / "esxiproxy.service")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")
    assert re.findall(r"^ExecReload=(.*)$", drop_in, re.MULTILINE) == ["", "/bin/kill -HUP $MAINPID"]


def test_a_reload_checks_the_file_and_ends_nothing():
    text = (UNITS / "esxiproxy.service").read_text()
    check, signal = re.findall(r"^ExecReload=(.*)$", text, re.MULTILINE)
    assert check == re.search(r"^ExecStartPre=(.*)$", text, re.MULTILINE)[1]
    assert signal == "/bin/kill -HUP $MAINPID"
    assert "SuccessExitStatus" not in text


_ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""As systemd does it: descriptor 3, and a process id that exec keeps."""


def exec_start():
    text = (UNITS / "esxiproxy.service").read_text()
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    return command


def test_the_service_starts_with_the_socket_that_systemd_has_bound(tmp_path):
    name = re.search(r"FileDescriptorName=(\w+)", (UNITS / "esxiproxy.socket").read_text())[1]
    documented = re.search(
        r"^ +(listen = systemd:\S+)", (ROOT / "docs/systemd.md").read_text(), re.MULTILINE
    )[1]
    assert documented.endswith(f":name={name}")
    config = tmp_path / "proxy.ini"
    config.write_text(ini.listener("a", listen=None, more=documented) + ini.upstream(1))
    command = exec_start().replace("/opt/esxiproxy/bin/", f"{BIN}/")
    command = command.replace("/etc/esxiproxy/proxy.ini", shlex.quote(str(config)))
    with socket.socket(socket.AF_INET6) as bound:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind(("::", 0))
        bound.listen()
        port = bound.getsockname()[1]
        started = subprocess.Popen(
            [sys.executable, "-c", _ACTIVATE, str(bound.fileno()), *shlex.split(command)],
            env={"PATH": f"{BIN}:/usr/bin:/bin", "LISTEN_FDNAMES": name},
            pass_fds=[bound.fileno()],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            # It waits in the queue until the proxy is there.
            with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: proxy\r\n\r\n")
                answer = client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 426 ")
        finally:
            started.terminate()
            output, _ = started.communicate(timeout=60)
    assert started.returncode == 0, output
