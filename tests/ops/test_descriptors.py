"""File descriptors are counted, their limit is raised, and sessions are refused in time."""

import errno
import os
import resource
import signal
import socket
import subprocess
import sys
from select import POLLIN, poll

import pytest

from esxiproxy.core.startup import StartupError
from esxiproxy.ops.process import descriptors
from esxiproxy.ops.process.descriptors import Descriptors, explain, used_descriptors
from tests.support import config
from tests.support.programs import environment

_TWISTD = "import sys; from twisted.scripts.twistd import run; sys.exit(run())"

_FORKING = """
import os, resource, sys
import esxiproxy.tap  # once for all limits
from twisted.scripts.twistd import run
_, config, log = sys.argv
for line in sys.stdin:
    process = os.fork()
    if not process:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.close(output)
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(line), int(line)))
        sys.argv[1:] = ["-n", "--pidfile=", "esxiproxy", "--config", config]
        run()
        sys.exit(0)
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


class Bounded(Descriptors):
    """The limit and the count are the test's."""

    def __init__(self, limit, used=0, reserve=64):
        super().__init__(lambda: self.now, reserve)
        self.limit, self.now = limit, used


def test_two_descriptors_a_session_beyond_the_reserve():
    assert Bounded(1024).sessions == 480
    assert Bounded(10).sessions == 0
    assert Bounded(float("inf")).sessions is None


def test_an_admitted_session_can_always_dial():
    files = Bounded(100, used=34, reserve=64)
    assert files.may_admit()
    assert files.may_admit(1)
    assert not files.may_admit(2)
    files.now = 36
    assert not files.may_admit()
    files.now = 0
    assert files.may_admit()
    assert Bounded(float("inf"), used=10**6).may_admit(10**6)


@pytest.fixture(params=["size", "list"])
def way(request, monkeypatch):
    """Count by the size of the directory, as since Linux 6.2, and by its listing."""
    if request.param == "list":
        monkeypatch.setattr(descriptors.os, "stat", lambda _path: os.stat_result((0,) * 10))
    elif not os.stat("/proc/self/fd").st_size:
        pytest.skip("the kernel does not say")


def test_open_descriptors_are_counted(way):
    before = used_descriptors()
    files = [os.open("/", os.O_RDONLY) for _ in range(50)]
    try:
        assert used_descriptors() == before + 50
    finally:
        for file in files:
            os.close(file)


def test_with_many_free_descriptors_one_count_is_used_again():
    """The count is repeated when three descriptors for each call may have used up the limit."""
    counts = []
    files = Descriptors(lambda: counts.append(1) or 100, reserve=64)
    files.limit = 10_000
    assert all(files.may_admit() for _ in range(640)) and len(counts) == 10
    counts.clear()
    files.limit = 180
    assert all(files.may_accept() for _ in range(17))
    assert len(counts) == 2, "of 180 all but 32 may be used: 100 are, and 15 times three fit in"


def test_a_platform_without_proc_refuses_no_session(monkeypatch):
    monkeypatch.setattr(descriptors, "_FD_DIRECTORY", "/nowhere")
    assert used_descriptors() == 0


@pytest.mark.parametrize("limit", [64, 66])
def test_a_limit_without_room_for_a_session_is_an_error(monkeypatch, limit):
    monkeypatch.setattr(descriptors, "_limits", lambda: (limit, limit))
    files = Bounded(limit, used=7)
    with pytest.raises(StartupError) as caught:
        files.raise_limit()
    assert str(caught.value).startswith(
        f"the limit on open files, {limit}, leaves none for a session: 7 are open and 64 are reserved, so at "
        "least 73 are needed: raise it (LimitNOFILE= in systemd, "
    )


def test_a_limit_for_one_session_is_none(monkeypatch):
    monkeypatch.setattr(descriptors, "_limits", lambda: (73, 73))
    files = Bounded(73, used=7)
    files.raise_limit()
    files.now = 8  # the client
    assert files.may_admit()


def test_after_the_start_one_session_and_later_files_fit_in():
    Bounded(76, used=7).check_started()
    with pytest.raises(StartupError, match="7 are open and 64 are reserved, so at least 76 are needed"):
        Bounded(75, used=7).check_started()
    with pytest.raises(StartupError, match="so at least 78 are needed"):
        Bounded(77, used=7).check_started(later=2)


def test_a_limit_that_is_too_low_for_the_workers_is_an_error(monkeypatch):
    monkeypatch.setattr(descriptors, "_limits", lambda: (100, 100))
    Bounded(100, used=7).raise_to_hard_limit(93)
    with pytest.raises(StartupError) as caught:
        Bounded(100, used=7).raise_to_hard_limit(94)
    assert str(caught.value).startswith(
        "the limit on open files, 100, is too low for the workers: 7 are open and the workers need 94, so at "
        "least 101 are needed: raise it (LimitNOFILE= in systemd, "
    )


@pytest.mark.parametrize("number", [errno.EBADF, errno.EMFILE])
def test_an_error_that_the_limit_has_caused_names_it(monkeypatch, number):
    monkeypatch.setattr(descriptors, "_limits", lambda: (100, 100))
    said = explain(OSError(number, "as the kernel says"))
    assert said.startswith("as the kernel says; the limit on open files is 100: raise it (LimitNOFILE= in ")
    assert explain(FileNotFoundError(errno.ENOENT, "no such file")) == "no such file"


@pytest.mark.parametrize(("workers", "limits"), [(1, range(75, 84, 2)), (2, range(80, 89, 4))])
def test_at_any_limit_it_ends_or_answers_for_consoles(tmp_path, workers, limits):
    """The process either serves consoles, or exits with a line that names the limit."""
    path = tmp_path / "proxy.ini"
    path.write_text(
        config.ini(
            config.listener(listen=f"unix:{tmp_path}/socket", health="/readyz"),
            config.upstream("ws://192.0.2.10"),
            workers=workers,
        )
    )
    served = 0
    with subprocess.Popen(
        [sys.executable, "-c", _FORKING, str(path), str(tmp_path / "log")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as forking:
        poller = poll()
        poller.register(forking.stdout, POLLIN)
        for limit in (*limits, 160):
            forking.stdin.write(f"{limit}\n")
            forking.stdin.flush()
            process = int(forking.stdout.readline())
            while not (ended := poller.poll(50)):
                if answer := probed(tmp_path / "socket"):
                    os.kill(process, signal.SIGTERM)
                    break
            status = int(forking.stdout.readline())
            said = (tmp_path / "log").read_text()
            if ended:
                assert status == 1 and "esxiproxy: " in said, (limit, status, said)
                assert f"the limit on open files, {limit}, leaves none for" in said
            else:
                assert status == 0 and answer.startswith(b"HTTP/1.1 200 "), (limit, answer, said)
                served += 1
        forking.stdin.close()
    assert served


def probed(path):
    """Return the answer to a health check, empty when there was none."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
            client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
            return client.recv(4096)
        except OSError:
            return b""


@pytest.mark.parametrize("workers", [1, 2])
def test_the_process_ends_with_one_line(tmp_path, workers):
    """A real twistd is started with a limit of 64."""
    path = tmp_path / "proxy.ini"
    path.write_text(config.ini(config.listener(), config.upstream("ws://192.0.2.10"), workers=workers))
    command = [sys.executable, "-c", _TWISTD, "-n", "--pidfile=", "esxiproxy", "--config", str(path)]
    ended = subprocess.run(
        command,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    said = ended.stdout + ended.stderr
    (line,) = [line for line in said.splitlines() if "esxiproxy: " in line]
    assert "the limit on open files, 64, leaves none for a session" in line
    assert "Traceback" not in said


def test_the_soft_limit_is_raised_to_the_hard_one_and_logged():
    program = """
import sys
from twisted.logger import globalLogPublisher, formatEvent
from esxiproxy.ops.process.descriptors import Descriptors
globalLogPublisher.addObserver(lambda event: print(formatEvent(event)))
files = Descriptors()
print(files.limit)
files.raise_limit()
print(files.limit)
"""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = 2000 if hard == resource.RLIM_INFINITY else min(hard, 2000)
    out = subprocess.run(
        [sys.executable, "-c", program],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, wanted)),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    sessions = (wanted - 64) // 2
    assert out == [
        "256",
        f"open files: {wanted}, which is enough for {sessions} sessions",
        str(wanted),
    ]
