"""The manhole, entered with OpenSSH's own client."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import Program, environment, need, until
from tests.support.websocket import BINARY
from tests.support.websocket_peers import Client


class Manhole(Program):
    """`python -m tests.support.ops_program`: a simulated host, a proxy and a manhole."""

    name = "manhole"

    def __init__(self, keys: str) -> None:
        super().__init__()
        self.ports: dict[str, int] = {}
        (self.folder / "authorized_keys").write_text(keys)
        (self.folder / "authorized_keys").chmod(0o600)

    def command(self) -> Sequence[str | Path]:
        return [sys.executable, "-m", "tests.support.ops_program", self.folder]

    def is_ready(self) -> bool:
        ready = self.folder / "ready"
        if ready.exists():
            self.ports = json.loads(ready.read_text())
        return bool(self.ports)

    def restart(self) -> None:
        """Stop it and start it again."""
        assert self.stop() == 0
        (self.folder / "ready").unlink()
        self.ports = {}
        self.start()

    def console(self) -> tuple[Client, str]:
        """Return a client with an open console, and its ticket."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.ports['host']}/sim/ticket", timeout=10
        ) as answer:
            ticket = answer.read().decode()
        client = Client(self.ports["console"])
        client.open(f"/ticket/{ticket}", ["binary"])
        return client, ticket


class Operator:
    """An operator with a key pair that ssh-keygen has made."""

    def __init__(self, folder: Path, name: str, kind: str = "ed25519") -> None:
        self._ssh = need("ssh", "openssh-client")
        keygen = need("ssh-keygen", "openssh-client")
        self._key = folder / name
        subprocess.run(
            [keygen, "-q", "-t", kind, "-N", "", "-C", name, "-f", self._key], check=True, timeout=60
        )
        self.public = self._key.with_suffix(".pub").read_text()
        self._known = folder / f"{name}.known_hosts"

    def command(self, manhole: Manhole, *line: str, options: Sequence[str] = ()) -> list[str]:
        """Return the command line of ssh."""
        fixed = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": str(self._known),
            "GlobalKnownHostsFile": "/dev/null",
            "ConnectTimeout": "10",
        }
        command = [self._ssh, "-F", "none", "-i", str(self._key), "-p", str(manhole.ports["manhole"])]
        for option in options:
            command += ["-o", option]
        for key, value in fixed.items():
            command += ["-o", f"{key}={value}"]
        # A host key is known by its alias: the port changes with every start.
        return [*command, "-o", f"HostKeyAlias={manhole.folder.name}", "127.0.0.1", *line]

    def run(
        self, manhole: Manhole, *line: str, options: Sequence[str] = (), typed: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command by ssh, and return its output."""
        command = self.command(manhole, *line, options=options)
        environment = {**os.environ, "SSH_ASKPASS": "/bin/false", "SSH_ASKPASS_REQUIRE": "never"}
        return subprocess.run(
            command, input=typed, text=True, capture_output=True, timeout=30, env=environment, check=False
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operators")


@pytest.fixture(scope="module")
def operator(folder: Path) -> Operator:
    return Operator(folder, "operator")


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Operator:
    return Operator(folder, "stranger")


@pytest.fixture(scope="module")
def manhole(operator: Operator) -> Iterator[Manhole]:
    with Manhole(f"# who may come in\n\n{operator.public}") as running:
        yield running


def only_session(operator: Operator, manhole: Manhole) -> str:
    said = operator.run(manhole, "sessions()").stdout
    (found,) = re.findall(r"^([0-9a-f]{16}) ", said, re.MULTILINE)
    return str(found)


def gone(operator: Operator, manhole: Manhole) -> bool:
    return operator.run(manhole, "sessions()").stdout == "no sessions\n"


def test_the_right_key_is_in(operator: Operator, manhole: Manhole) -> None:
    said = operator.run(manhole, "help()")
    assert said.returncode == 0, said.stderr
    assert "sessions()" in said.stdout and "close(id, 'reason')" in said.stdout


def test_a_wrong_key_is_out(stranger: Operator, manhole: Manhole) -> None:
    said = stranger.run(manhole, "help()")
    assert said.returncode == 255 and said.stdout == ""
    assert "Permission denied (publickey)." in said.stderr


def test_no_password_is_asked_for(stranger: Operator, manhole: Manhole) -> None:
    methods = ["BatchMode=no", "PreferredAuthentications=password,keyboard-interactive"]
    said = stranger.run(manhole, "help()", options=[*methods, "NumberOfPasswordPrompts=1"], typed="secret\n")
    assert said.returncode == 255 and "Permission denied (publickey)." in said.stderr
    assert "password:" not in said.stderr.lower()


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_other_kinds_of_keys_are_used_at_once_when_they_are_added(
    kind: str, folder: Path, operator: Operator, manhole: Manhole
) -> None:
    other = Operator(folder, kind, kind)
    assert other.run(manhole, "help()").returncode == 255
    keys = manhole.folder / "authorized_keys"
    before = keys.read_text()
    keys.write_text(before + other.public)
    assert other.run(manhole, "help()").returncode == 0
    keys.write_text(before)
    assert other.run(manhole, "help()").returncode == 255


def test_a_keys_file_that_others_may_write_refuses_every_login(operator: Operator, manhole: Manhole) -> None:
    keys = manhole.folder / "authorized_keys"
    keys.chmod(0o666)
    try:
        assert operator.run(manhole, "help()").returncode == 255
    finally:
        keys.chmod(0o600)
    assert "users other than its owner can write to it" in manhole.log()


def test_the_host_key_is_made_for_its_owner_and_stays(operator: Operator) -> None:
    with Manhole(operator.public) as manhole:
        key = manhole.folder / "host_key"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        first = key.read_bytes()
        assert operator.run(manhole, "help()").returncode == 0
        manhole.restart()
        assert key.read_bytes() == first and stat.S_IMODE(key.stat().st_mode) == 0o600
        # It is the same to ssh, which does not take another one under a name that it knows.
        assert operator.run(manhole, "help()", options=["StrictHostKeyChecking=yes"]).returncode == 0
        assert sorted(path.name for path in manhole.folder.iterdir()) == [
            "authorized_keys",
            "host_key",
            "output.log",
            "ready",
        ]


def test_close_ends_a_console_with_its_reason(operator: Operator, manhole: Manhole) -> None:
    client, ticket = manhole.console()
    with client:
        name = only_session(operator, manhole)
        said = operator.run(manhole, f"close({name!r}, 'maintenance at noon')")
        assert (said.returncode, said.stdout) == (0, f"session {name} is being closed\n")
        frame = client.recv_frame()
        while frame.opcode != 8:
            frame = client.recv_frame()
        assert frame.payload == (1008).to_bytes(2, "big") + b"maintenance at noon"
        client.send_close(1008)
        client.recv_eof()
    until(lambda: gone(operator, manhole), "the session is gone")
    assert re.search(rf"'\w+' with key SHA256:\S+ closes session {name}: maintenance at noon", manhole.log())
    assert ticket not in manhole.log()


def test_no_ticket_is_shown(operator: Operator, manhole: Manhole) -> None:
    client, ticket = manhole.console()
    with client:
        name = only_session(operator, manhole)
        for line in (
            "sessions()",
            f"session({name!r})",
            "upstreams()",
            "sessions.__self__, vars(sessions.__self__)",
            "print(next(iter(sessions.__self__._sessions)).session.request)",
            "next(iter(sessions.__self__._sessions)).session.request.head",
            "raise ValueError(next(iter(sessions.__self__._sessions)).session.request.head)",
        ):
            said = operator.run(manhole, line)
            assert said.stdout and ticket not in said.stdout + said.stderr, line
        assert "/ticket/***" in operator.run(manhole, f"session({name!r})").stdout
    until(lambda: gone(operator, manhole), "the session is gone")


def test_a_trace_shows_headers_and_no_payload(operator: Operator, manhole: Manhole) -> None:
    client, _ = manhole.console()
    with client:
        name = only_session(operator, manhole)
        command = operator.command(manhole, f"trace({name!r}, frames=4, seconds=20)")
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment()
        ) as ssh:
            assert ssh.stdout is not None
            assert ssh.stdout.readline().startswith(f"session {name}: 4 frames or 20 s")
            ssh.stdout.readline()
            client.send_frame(9, b"swordfish")
            client.send_frame(BINARY, b"RFB 003.008\n")
            lines = ssh.stdout.read()
            assert ssh.wait(20) == 0
    assert re.search(r"\+ *0\.\d{3} +client > proxy +ping +fin +9 +masked\n", lines)
    assert re.search(r"proxy > client +pong +fin +9\n", lines)
    assert re.search(r"client > upstream +binary +fin +12 +masked\n", lines)
    assert lines.endswith("trace ended after 4 frames: limit of frames reached\n")
    assert "RFB" not in lines and "swordfish" not in lines
    until(lambda: gone(operator, manhole), "the session is gone")


def test_the_shell_is_python_and_leaves_nothing_behind(operator: Operator, manhole: Manhole) -> None:
    typed = "6 * 7\nclose('nobody')\nfor n in range(3):\n    print('n', n)\n\nhelp()\nexit()\n"
    said = operator.run(manhole, options=["RequestTTY=force"], typed=typed)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1bE", "", said.stdout)
    assert said.returncode == 0, said.stderr
    assert "42" in text and "no session 'nobody'" in text and "n 2" in text and "untrace(id)" in text
    assert "Traceback" not in text
    assert "Unhandled" not in manhole.log() and "NotImplementedError" not in manhole.log()


@pytest.mark.parametrize(
    ("line", "status"),
    [("1 / 0", 1), ("close('nobody')", 1), ("for", 1), ("for x in y:", 1), ("raise SystemExit", 0), ("1", 0)],
)
def test_the_exit_status_says_whether_a_command_went_well(
    line: str, status: int, operator: Operator, manhole: Manhole
) -> None:
    said = operator.run(manhole, line)
    assert said.returncode == status, said.stdout
    assert operator.run(manhole, "help()").returncode == 0


@pytest.mark.parametrize(
    "arguments", [["-s", "sftp"], ["-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1"]]
)
def test_there_is_no_forwarding_and_no_subsystem(
    arguments: list[str], operator: Operator, manhole: Manhole
) -> None:
    command: list[Any] = operator.command(manhole)
    command[-1:] = [*arguments, "127.0.0.1"] if arguments[0] == "-N" else ["-s", "127.0.0.1", arguments[1]]
    said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, input="")
    assert said.returncode != 0, said.stdout
