"""The manhole of a proxy with several workers: over SSH, and with `esxiproxy manhole` on a terminal."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import sys
from collections.abc import Callable

import pytest

from esxiproxy.cli.main import main
from tests.integration.manhole_programs import (
    PID,
    PROMPT,
    Serving,
    command,
    listed,
    piped,
    rows,
    running,
    shells,
)
from tests.integration.test_manhole import Operator
from tests.support import config
from tests.support.crowd import EchoUpstream, Single, echoes, let_go
from tests.support.processes import ROOT_ONLY
from tests.support.programs import free_port, until
from tests.support.terminal import OnTerminal
from tests.support.workers import gone, reloaded

Text = Callable[..., str]


@pytest.fixture
def text(upstream: EchoUpstream) -> Text:
    def content(admin: str = "[admin]\n", **proxy: object) -> str:
        proxy = {"workers": 2, "close_timeout": "1s", "max_connections": "off"} | proxy
        proxy |= {"manhole_keys": "authorized_keys", "max_sessions_per_console": "off"}
        proxy.setdefault("manhole", f"127.0.0.1:{free_port()}")
        return admin + config.ini(config.listener(), config.upstream(upstream.port), **proxy)

    return content


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    return Operator(tmp_path_factory.mktemp("operators"), "operator")


def test_the_admin_process_lists_all_sessions_and_leads_to_each_worker(
    text: Text, operator: Operator
) -> None:
    """The operator sees all sessions with their workers by SSH, and opens the shell of each worker."""
    with running(text("[admin]\naudit_log = audit.log\n"), operator) as (crew, clients):
        found = until(
            lambda: len(each := listed(operator.run(crew, "sessions()").stdout)) == len(clients) and each,
            "all sessions are listed",
        )
        assert set(found.values()) == {"0", "1"}
        pids = crew.workers()
        said = operator.run(crew, "workers()")
        assert said.returncode == 0 and said.stdout.endswith(f"2 workers on {machine(said.stdout)}\n")
        numbers = dict(re.findall(r"^(\d) +0 +(\d+) +accepting +\d+ +\d+$", said.stdout, re.MULTILINE))
        assert sorted(map(int, numbers.values())) == sorted(pids)
        with OnTerminal(operator.command(crew, options=["RequestTTY=force"]), 30, 90) as terminal:
            terminal.shows(PROMPT)
            for number, pid in numbers.items():
                terminal.type(f"worker({number})\r{PID}")
                assert terminal.shows(r"\nPID (\d+)\n")[1] == pid
                own = {session for session, worker in found.items() if worker == number}
                terminal.type("sessions()\r")
                block = terminal.shows(r"(?s)id +worker +gen.*\d+ sessions?\n")[0]
                assert listed(block) == dict.fromkeys(own, number)
                terminal.type("\x04" if number == "0" else "exit()\r")
                terminal.shows(rf"the shell of worker {number} of generation 0 has ended\n{PROMPT}")
            terminal.type(PID)
            assert terminal.shows(r"\nPID (\d+)\n")[1] == str(crew.admins()[0])
            terminal.type("exit()\r")
            assert terminal.status() == 0
        log = crew.folder / "audit.log"
        until(lambda: log.read_text().count('"done"') >= 3, "the ends of all logins")
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert {(line["action"], line["source"]) for line in lines} == {("manhole_login", "127.0.0.1")}
        assert all(re.fullmatch(r"'.+' with key SHA256:\S+", line["actor"]) for line in lines)
        outcomes = [sorted(line["outcome"] for line in lines if line["action_id"] == each["action_id"])
                    for each in lines]  # fmt: skip
        assert outcomes == [["begun", "done"]] * len(lines)
        crew.assert_clean()


def machine(said: str) -> str:
    return said.rstrip().rpartition(" ")[2]


def test_a_command_says_which_worker_has_a_session(text: Text, operator: Operator) -> None:
    """The command works in the session's worker. Elsewhere it says how to get there."""
    with running(text(), operator) as (crew, clients):
        found = until(lambda: len(each := rows(crew)) == len(clients) and each, "all are listed")
        session = next(session for session, worker in found.items() if worker == "1")
        for line in (f"close({session!r})", f"trace({session!r})", f"untrace({session[:12]!r})"):
            said = piped(crew, f"{line}\n")
            assert said.returncode == 1 and re.search(
                rf"session {session} belongs to worker 1 of generation 0 on \S+: "
                r"worker\('1', generation=0\) opens its shell",
                said.stdout,
            ), said
        said = piped(crew, f"close({session!r})\n", "--worker", "0")
        assert said.returncode == 1 and "esxiproxy manhole --worker 1 --generation 0" in said.stdout, said
        said = piped(crew, f"session({session[:12]!r})\n")
        assert said.returncode == 0 and "worker      1 (generation 0)" in said.stdout, said
        assert "/ticket/***" in said.stdout and "worker('1', generation=0)" in said.stdout
        assert piped(crew, "close('nobody')\n").stdout == "no session 'nobody'\n"
        said = piped(crew, f"session({session!r})\nclose({session!r}, 'maintenance')\n", "--worker", "1")
        assert said.returncode == 0 and f"session {session} is being closed" in said.stdout, said
        until(lambda: session not in rows(crew), "the session has ended")
        (ended,) = [client for client in clients if not echoes(client)]
        clients.remove(ended)
        ended.drop()
        assert re.search(rf"worker 1: .*uid \d+.* closes session {session}: maintenance", crew.log())


def test_the_command_on_a_terminal(text: Text, operator: Operator) -> None:
    """Raw mode and back, a worker and back, the size of the window, the audit log, and the log."""
    with running(text("[admin]\naudit_log = audit.log\n"), operator) as (crew, _):
        with OnTerminal(command(crew), 33, 77) as terminal:
            terminal.shows(PROMPT)
            assert not terminal.has_its_mode_back
            terminal.type("worker('1')\r")
            terminal.shows(rf"help\(\) lists the commands\n{PROMPT}")
            size = "import gc; from esxiproxy.ops.manhole.shell import Shell\r"
            size += "print('SIZE', [(s.height, s.width) for s in gc.get_objects() if type(s) is Shell])\r"
            terminal.type(size)
            terminal.shows(r"\nSIZE \[\(33, 77\)\]\n")
            terminal.resize(44, 99)
            until(lambda: resized(terminal, size, (44, 99)), "the new size is known to the worker")
            terminal.type("\x04")
            terminal.shows(rf"worker 1 of generation 0 has ended\n{PROMPT}")
            terminal.type("1 / 0\r")
            terminal.shows("ZeroDivisionError")
            terminal.type("\x04")
            assert terminal.status() == 0 and terminal.has_its_mode_back
        log = crew.folder / "audit.log"
        # The line with the outcome is written when the shell has ended.
        until(lambda: log.read_text().count("\n") >= 2, "both lines of the audit log")
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        uid = f"uid {os.getuid()} ({pwd.getpwuid(os.getuid()).pw_name})"
        assert [(line["action"], line["actor"], line["outcome"]) for line in lines] == [
            ("manhole", uid, "begun"),
            ("manhole", uid, "done"),
        ]
        assert f"admin process: manhole: {uid} has opened a shell" in crew.log()
        assert f"worker 1: manhole: {uid} has opened a shell" in crew.log()


def test_a_signal_gives_the_terminal_its_mode_back(text: Text, operator: Operator) -> None:
    """SIGTERM ends the command and the shell, and nothing else."""
    with running(text(), operator, 0) as (crew, _), OnTerminal(command(crew)) as terminal:
        terminal.shows(PROMPT)
        terminal.signal(signal.SIGTERM)
        assert terminal.status() == 128 + signal.SIGTERM and terminal.has_its_mode_back
        until(lambda: "has left the shell" in crew.log(), "the shell has ended")
        crew.assert_clean()


def resized(terminal: OnTerminal, ask: str, size: tuple[int, int]) -> bool:
    terminal.type(ask)
    return terminal.shows(r"\nSIZE \[(.*)\]\n")[1] == str(size)


def test_a_worker_is_reached_directly(text: Text, operator: Operator) -> None:
    """`--worker N` in a pipe and on a terminal; there is no shell of a worker that does not exist."""
    with running(text(), operator, 2) as (crew, _):
        pids = {piped(crew, "import os; os.getpid()\n", "--worker", number).stdout for number in "01"}
        assert pids == {f"{pid}\n" for pid in crew.workers()}
        with OnTerminal(command(crew, "--worker", "0")) as terminal:
            terminal.shows(PROMPT)
            terminal.type("exit()\r")
            assert terminal.status() == 0 and terminal.has_its_mode_back
        said = piped(crew, "1\n", "--worker", "7")
        assert (said.returncode, said.stdout) == (1, "")
        assert said.stderr == (
            "esxiproxy manhole: no worker '7': there are 0 (generation 0), 1 (generation 0)\n"
        )
        assert piped(crew, "1\n", "--generation", "0").returncode == 2


def test_a_worker_that_crashes_or_hangs_returns_to_the_prompt(text: Text, operator: Operator) -> None:
    """The prompt is that of the admin process, after a sentence. The worker's successor can be opened."""
    with running(text(), operator, 0) as (crew, _):
        with OnTerminal(command(crew)) as terminal:
            terminal.shows(PROMPT)
            terminal.type(f"worker(0)\r{PID}")
            victim = int(terminal.shows(r"\nPID (\d+)\n")[1])
            os.kill(victim, signal.SIGKILL)
            terminal.shows(rf"worker 0 of generation 0 has exited, or has closed its shell\n{PROMPT}")
            until(lambda: "worker 0 is ready" in crew.log(), "the worker is replaced")
            until(lambda: replaced(terminal, victim), "the new worker is reached")
            # A statement that blocks the event loop of the worker.
            terminal.type("worker(1)\r")
            terminal.shows(PROMPT)
            terminal.type("import time; time.sleep(30)\r")
            terminal.shows(r"worker 1 of generation 0 has not answered for 10 s: .*event loop", 30)
            terminal.shows(PROMPT)
            terminal.type("worker(1)\r")
            terminal.shows("worker 1 of generation 0 has not opened its shell within 5 s")
            terminal.shows(PROMPT)
            terminal.type("exit()\r")
            assert terminal.status() == 0
        victim = int(piped(crew, "import os; os.getpid()\n", "--worker", "0").stdout)
        with OnTerminal(command(crew, "--worker", "0")) as terminal:
            terminal.shows(PROMPT)
            os.kill(victim, signal.SIGKILL)
            assert terminal.status() == 3 and terminal.has_its_mode_back
            assert "worker 0 of generation 0 has exited" in terminal.text


def replaced(terminal: OnTerminal, victim: int) -> bool:
    """Return whether worker 0 is another process.  For a second the admin process may know of none."""
    terminal.type("worker(0)\r")
    found = terminal.shows(r"help\(\) lists|cannot be reached|has exited|has not opened|no worker '0'")
    if "help" not in found[0]:
        return False
    terminal.type(PID)
    pid = int(terminal.shows(r"\nPID (\d+)\n")[1])
    terminal.type("\x04")
    terminal.shows(rf"has ended\n{PROMPT}")
    return pid != victim


def test_old_generations_are_reached_until_they_end(text: Text, operator: Operator) -> None:
    """After a reload the old worker has the old consoles. Its socket is removed when it ends."""
    content = text()
    with running(content, operator, 4) as (crew, clients):
        old = crew.workers()
        reloaded(crew)
        until(lambda: len(crew.admins()) == 1, "the old admin process has ended")
        said = until(
            lambda: (said := piped(crew, "workers()\n").stdout).count("retiring") == 2 and said,
            "both are old",
        )
        assert "4 workers" in said and said.count("accepting") == 2
        found = until(
            lambda: re.findall(r"^[0-9a-f]{16} +\d +(\d)", piped(crew, "sessions()\n").stdout, re.MULTILINE),
            "the old sessions are listed",
        )
        assert found == ["0"] * 4
        pid = "import os; os.getpid()\n"
        newest = piped(crew, pid, "--worker", "0").stdout
        older = piped(crew, pid, "--worker", "0", "--generation", "0").stdout
        assert int(older) in old and int(newest) not in old
        assert [name for name in shells(crew) if "-0.sock" in name] == ["worker-0-0.sock", "worker-1-0.sock"]
        assert all(map(echoes, clients))
        let_go(clients)
        clients.clear()
        until(lambda: shells(crew) == ["worker-0-1.sock", "worker-1-1.sock"], "the old ones have ended")
        (folder,) = crew.folder.glob("esxiproxy-*/shells")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def with_two_old_ones(said: str) -> str:
    return said if said.count("retiring") == 2 else ""


def test_a_shell_of_a_worker_does_not_outlive_the_master(text: Text, operator: Operator) -> None:
    """The client ends as well, and prints the reason."""
    with running(text(), operator, 2) as (crew, clients):
        workers = crew.workers()
        with OnTerminal(command(crew, "--worker", "1")) as terminal:
            terminal.shows(PROMPT)
            os.kill(crew.pid, signal.SIGKILL)
            assert terminal.status() == 3
            assert "connect again" in terminal.text or "was closed" in terminal.text
        until(lambda: shells(crew) == [], "the sockets are gone")
        assert all(map(echoes, clients)) and not all(map(gone, workers))


def test_the_sockets_come_and_go_with_the_configuration(text: Text, operator: Operator) -> None:
    """Without `manhole` there is no socket. Without a running proxy the command prints that."""
    with running(text(), operator, 0) as (crew, _):
        path = crew.folder / "manhole.sock"
        assert path.stat().st_mode & 0o777 == 0o600 and len(shells(crew)) == 2
        crew.path.write_text(re.sub("manhole.*\n", "", crew.path.read_text()))
        reloaded(crew)
        until(lambda: not path.exists() and not shells(crew), "the sockets are gone")
        said = piped(crew, "1\n")
        assert said.returncode == 3 and "set manhole and manhole_keys in [proxy]" in said.stderr, said
        assert crew.stop() == 0
        said = piped(crew, "1\n")
        assert said.returncode == 3 and "the proxy is not running" in said.stderr, said
        crew.assert_clean()


@ROOT_ONLY
def test_a_user_without_the_right_to_open_the_socket_gets_an_error(text: Text, operator: Operator) -> None:
    """The socket is for the user of the proxy and for root."""
    nobody = pwd.getpwnam("nobody").pw_uid
    with running(text(), operator, 0) as (crew, _):
        crew.folder.chmod(0o755)
        status, said = as_user(nobody, ["manhole", "--socket", str(crew.folder / "admin.sock")])
        assert status == 3 and "manhole.sock may not be opened by you: run this as root" in said


def as_user(uid: int, arguments: list[str]) -> tuple[int, str]:
    """Run a command as a user in a fork of this process; return its status and errors.

    A user may not run a Python that is in a folder of root.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 99
        try:
            os.dup2(writing, 2)
            sys.stderr = os.fdopen(2, "w")
            os.setgroups([])
            os.setresuid(uid, uid, uid)
            status = main(arguments)
            sys.stderr.flush()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as errors:
        said = errors.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def test_a_single_process_has_the_socket_too(text: Text, operator: Operator) -> None:
    """The shell is that of the process, which has no workers."""
    with Single(text(workers=1), {"authorized_keys": operator.public}) as crew:
        said = piped(crew, "import os; os.getpid()\nsessions()\n")
        assert (said.returncode, said.stdout) == (0, f"{crew.pid}\nno sessions\n"), said
        said = piped(crew, "1\n", "--worker", "0")
        assert said.returncode == 1 and "has no workers" in said.stderr
        assert piped(crew, "1 / 0\n").returncode == 1
        assert piped(crew, "for n in range(2):\n    print('n', n)").stdout == "n 0\nn 1\n"


def test_services_alone_have_it_over_ssh(text: Text, operator: Operator) -> None:
    """An admin process without [admin] serves the port, and there is no unix socket for the command."""
    with running(text("", services="idle"), operator, 4, Serving) as (crew, clients):
        said = operator.run(crew, "sessions()")
        assert len(listed(said.stdout)) == len(clients)
        assert not (crew.folder / "manhole.sock").exists() and len(shells(crew)) == 2
        with OnTerminal(operator.command(crew, options=["RequestTTY=force"])) as terminal:
            terminal.shows(PROMPT)
            reloaded(crew)
            terminal.shows("the process of this shell ends: connect again")
            assert terminal.status() == 255
        assert operator.run(crew, "workers()").stdout.count("\n0 ") == 2
        crew.assert_clean()
