"""A unix socket of a killed process is replaced; anything else at its path stays."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from twisted.internet.protocol import Factory
from twisted.internet.selectreactor import SelectReactor

from esxiproxy.binding import Binding, remove_stale
from esxiproxy.core.startup import BindError
from esxiproxy.net.transport.reactor import with_fast_transports
from tests.support.logs import process_log
from tests.support.programs import environment

KILLED = """
import os, socket, sys
path = sys.argv[1]
os.symlink(sys.argv[2], path + ".lock")
listening = socket.socket(socket.AF_UNIX)
listening.bind(path)
listening.listen()
print("bound", flush=True)
sys.stdin.read()
"""


@pytest.fixture(
    params=[SelectReactor, lambda: with_fast_transports(SelectReactor())], ids=["Twisted's", "ours"]
)
def reactor(request):
    return request.param()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "console.sock")


def leave_behind(path, pid):
    """Let a real process bind the path, and kill it; its lock file has this PID."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, path, str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as child:
        assert child.stdout.readline() == "bound\n"
        child.send_signal(signal.SIGKILL)
        child.wait()


def bind(path, reactor):
    binding = Binding(f"unix:{path}", reactor)
    binding.bind(Factory())
    return binding


def release(binding, reactor):
    released = []
    binding.release().addCallback(released.append)
    reactor.runUntilCurrent()
    assert released


def listens(path):
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
        return True


@pytest.mark.parametrize("pid", [os.getpid(), os.getppid(), 1 << 22], ids=["own", "another's", "nobody's"])
def test_a_socket_of_a_killed_process_is_taken_over(path, reactor, pid):
    leave_behind(path, pid)
    assert os.path.exists(path) and os.path.islink(f"{path}.lock") and not listens(path)
    binding = bind(path, reactor)
    assert listens(path)
    release(binding, reactor)
    assert os.listdir(os.path.dirname(path)) == []


def test_a_socket_without_a_lock_is_taken_over(path, reactor):
    leave_behind(path, os.getpid())
    os.unlink(f"{path}.lock")
    release(bind(path, reactor), reactor)


def test_a_lock_without_a_socket_is_no_obstacle(path, reactor):
    os.symlink(str(os.getpid()), f"{path}.lock")
    release(bind(path, reactor), reactor)


def test_a_socket_that_is_served_stays(path, reactor):
    leave_behind(path, os.getpid())
    with socket.socket(socket.AF_UNIX) as other:
        os.unlink(path)
        other.bind(path)
        other.listen(1)
        inode = os.stat(path).st_ino
        for _ in range(4):  # also when its queue is full
            with pytest.raises(BindError) as caught:
                bind(path, reactor)
            assert str(caught.value) == f"another process listens on {path}: stop it, or listen elsewhere"
        assert os.stat(path).st_ino == inode and os.path.islink(f"{path}.lock")


@pytest.mark.parametrize("kind", ["file", "folder", "link", "fifo"])
def test_a_file_that_is_no_socket_is_kept(path, reactor, kind):
    if kind == "file":
        with open(path, "w") as file:
            file.write("precious")
    elif kind == "folder":
        os.mkdir(path)
    elif kind == "link":
        os.symlink("elsewhere", path)
    else:
        os.mkfifo(path)
    before = os.lstat(path)
    with pytest.raises(BindError) as caught:
        bind(path, reactor)
    assert str(caught.value) == f"{path} exists and is not a socket: remove it, or listen elsewhere"
    assert os.lstat(path) == before


def test_a_socket_of_another_kind_stays(path, reactor):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        with pytest.raises(BindError, match="exists and may be in use: Protocol wrong type for socket"):
            bind(path, reactor)
        assert os.path.exists(path)


def test_a_socket_that_another_process_bound_is_restored(path, monkeypatch):
    leave_behind(path, os.getpid())
    rename, other = os.rename, socket.socket(socket.AF_UNIX)

    def late(source, target):
        if source == path and not other.getsockname():  # between the look and the removal
            os.unlink(path)
            other.bind(path)
            other.listen()
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with other:
        with pytest.raises(BindError, match="another process listens on"):
            remove_stale(path)
        assert listens(path)


@pytest.mark.parametrize("name", ["x", "x" * 20])
def test_a_path_as_long_as_they_may_be(tmp_path, reactor, name):
    folder = tmp_path / ("y" * (107 - len(os.fsencode(tmp_path)) - 2 - len(name)))
    folder.mkdir()
    path = f"{folder}/{name}"
    assert len(path) == 107
    leave_behind(path, os.getpid())
    release(bind(path, reactor), reactor)


def test_an_abstract_address_is_no_file(reactor):
    remove_stale("\0esxiproxy-test")


@pytest.fixture
def ours():
    return with_fast_transports(SelectReactor())


def test_an_abstract_address_is_bound(ours):
    release(bind("\0esxiproxy-test-bound:lockfile=0", ours), ours)


def test_the_socket_of_another_process_stays_when_this_one_ends(path, ours):
    binding = bind(path, ours)
    os.unlink(path)
    leave_behind(path + "x", os.getppid())
    os.replace(path + "x", path)
    os.replace(f"{path}x.lock", f"{path}.lock")
    inode = os.stat(path).st_ino
    release(binding, ours)
    assert os.stat(path).st_ino == inode and os.readlink(f"{path}.lock") == str(os.getppid())


def test_a_socket_that_was_removed_is_no_obstacle_to_the_end(path, ours):
    binding = bind(path, ours)
    os.unlink(path)
    release(binding, ours)
    assert os.listdir(os.path.dirname(path)) == []


def test_a_lock_of_a_process_that_runs_is_an_error(path, reactor):
    """That process still listens, and would remove the new socket when it ends."""
    os.symlink(str(os.getppid()), f"{path}.lock")
    with pytest.raises(BindError, match=rf"process {os.getppid()} has locked {path}, whose socket was "):
        bind(path, reactor)
    assert os.readlink(f"{path}.lock") == str(os.getppid())


@pytest.mark.parametrize("holder", [str(1 << 22), str(1 << 80), "elsewhere"])
def test_a_lock_of_no_process_is_removed(path, reactor, holder):
    os.symlink(holder, f"{path}.lock")
    release(bind(path, reactor), reactor)


def test_a_socket_that_is_bound_and_listens_a_moment_later_stays(path, monkeypatch):
    os.symlink(str(os.getppid()), f"{path}.lock")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        monkeypatch.setattr("time.sleep", lambda seconds: other.listen())
        with pytest.raises(BindError, match="another process listens on"):
            remove_stale(path)
        assert listens(path)


@pytest.mark.parametrize("holder", [str(os.getpid()), str(1 << 22), ""])
def test_nothing_is_waited_for_when_no_other_process_holds_the_lock(path, monkeypatch, holder):
    leave_behind(path, os.getpid())
    os.unlink(f"{path}.lock")
    if holder:
        os.symlink(holder, f"{path}.lock")
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waits"))
    remove_stale(path)
    assert os.listdir(os.path.dirname(path)) == []


@pytest.mark.parametrize("replaced", [False, True])
def test_a_socket_that_was_removed_is_known_and_leaves_the_next_one_alone(path, reactor, replaced):
    binding = bind(path, reactor)
    assert not binding.is_removed
    os.unlink(path)
    assert binding.is_removed
    if replaced:
        following = bind(path, reactor)
        assert not following.is_removed and binding.is_removed
    with process_log() as lines:
        release(binding, reactor)
    assert not binding.is_removed and "\0" not in "".join(lines)
    if replaced:
        assert listens(path) and os.readlink(f"{path}.lock") == str(os.getpid())
        release(following, reactor)
    assert os.listdir(os.path.dirname(path)) == []


def test_a_socket_that_was_moved_away_is_removed(path, reactor):
    binding = bind(path, reactor)
    os.rename(path, path + "x")
    assert binding.is_removed
    os.symlink(path + "x", path)
    assert not binding.is_removed
    os.unlink(path + "x")
    release(binding, reactor)


@pytest.mark.parametrize("kind", ["tcp:0:interface=127.0.0.1", "unix:\0esxiproxy-test-there:lockfile=0"])
def test_a_socket_without_a_file_is_never_removed(ours, kind):
    binding = Binding(kind, ours)
    assert not binding.is_removed
    binding.bind(Factory())
    assert not binding.is_removed
    release(binding, ours)


def test_a_folder_that_cannot_be_examined_does_not_make_a_socket_removed(path, reactor, monkeypatch):
    binding = bind(path, reactor)
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda *_: (_ for _ in ()).throw(PermissionError(13, "denied")))
        removed = binding.is_removed
    assert not removed
    release(binding, reactor)
