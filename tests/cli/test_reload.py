"""``esxiproxy reload``."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from esxiproxy.cli.main import main
from tests.support import config
from tests.support.programs import environment

GOOD = config.listener("a") + config.upstream("ws://192.0.2.1")
WAITS = (
    "import signal, sys\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP, signal.SIGTERM])\n"
    "print('ready', flush=True)\n"
    "print(signal.sigwait([signal.SIGHUP, signal.SIGTERM]).name, flush=True)\n"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/proxy.ini").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextlib.contextmanager
def program(*arguments):
    """Run a process with this command line, which prints the signal that it gets."""
    command = [sys.executable, "-c", WAITS, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as running:
        try:
            assert running.stdout.readline() == "ready\n"
            yield running
        finally:
            running.kill()


def got(running):
    """Return the signal that the process got; SIGTERM says that there was none before."""
    with contextlib.suppress(ProcessLookupError):
        running.send_signal(signal.SIGTERM)
    return running.stdout.readline().strip()


def test_a_proxy_gets_sighup(folder, capsys):
    with program("esxiproxy") as running:
        (folder / "twistd.pid").write_text(f"{running.pid}")
        assert main(["reload"]) == 0
        assert got(running) == "SIGHUP"
    assert capsys.readouterr() == (f"conf/proxy.ini: ok; process {running.pid} reloads it\n", "")


def test_pidfile_and_configuration_may_be_elsewhere(folder, capsys):
    (folder / "conf/proxy.ini").rename(folder / "other.ini")
    with program("esxiproxy") as running:
        (folder / "run.pid").write_text(f"{running.pid}\n")
        assert main(["reload", "--pidfile", "run.pid", "--config", "other.ini"]) == 0
        assert got(running) == "SIGHUP"


def test_a_file_with_problems_is_reported_and_no_signal_is_sent(folder, capsys):
    (folder / "conf/proxy.ini").write_text(GOOD + "colour = blue\n")
    with program("esxiproxy") as running:
        (folder / "twistd.pid").write_text(f"{running.pid}")
        assert main(["reload"]) == 1
        assert got(running) == "SIGTERM"
    out, err = capsys.readouterr()
    assert not out and err.startswith("conf/proxy.ini:8: [upstream esxi1] colour: ")


def test_another_program_is_not_signalled(folder, capsys):
    with program("something", "else") as running:
        (folder / "twistd.pid").write_text(f"{running.pid}")
        assert main(["reload"]) == 1
        assert got(running) == "SIGTERM"
        assert f"twistd.pid is stale: process {running.pid} is another program" in capsys.readouterr().err


def test_a_stale_pidfile_is_reported(folder, capsys):
    with program("esxiproxy") as running:
        running.kill()
    (folder / "twistd.pid").write_text(f"{running.pid}")
    assert main(["reload"]) == 1
    assert capsys.readouterr().err == (
        f"esxiproxy reload: twistd.pid is stale: process {running.pid} does not exist\n"
    )


@pytest.mark.parametrize("text", ["", "0", "-1", "many", "1 2", "99999999999", "\u0661"])
def test_a_pidfile_without_a_number_is_reported(folder, capsys, text):
    (folder / "twistd.pid").write_text(text)
    assert main(["reload"]) == 1
    assert capsys.readouterr().err == "esxiproxy reload: twistd.pid contains no process ID\n"


def test_a_missing_pidfile_is_reported(folder, capsys):
    assert main(["reload", "--pidfile", "gone.pid"]) == 1
    assert "gone.pid does not exist: no proxy was started with this pidfile" in capsys.readouterr().err


def test_a_process_of_another_user_is_reported(folder, capsys, monkeypatch):
    def refuse(process, number):
        raise PermissionError(1, "Operation not permitted")

    (folder / "twistd.pid").write_text("4711")
    monkeypatch.setattr(os, "kill", refuse)
    assert main(["reload"]) == 1
    assert "process 4711 in twistd.pid belongs to another user" in capsys.readouterr().err


def test_a_warning_is_reported_and_the_signal_is_sent(folder, capsys):
    (folder / "conf/proxy.ini").write_text(GOOD.replace("\n\n", "\nproxy_protocol = yes\n\n", 1))
    with program("esxiproxy") as running:
        (folder / "twistd.pid").write_text(f"{running.pid}")
        assert main(["reload"]) == 0
        assert got(running) == "SIGHUP"
    assert capsys.readouterr().err.startswith("conf/proxy.ini:4: warning: [listener a] proxy_protocol: ")
