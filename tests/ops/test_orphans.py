"""The process with PID 1 reaps exited children that nothing waits for.  The children are real."""

import os
from contextlib import suppress

import pytest
from twisted.internet.process import reapProcessHandlers
from twisted.internet.task import Clock

from esxiproxy.ops.process.orphans import INTERVAL, OrphanReaper


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def child():
    """Return a child of this process that has exited and was not reaped."""
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    yield pid
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def is_zombie(pid):
    with suppress(ChildProcessError):
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return False


def test_a_zombie_is_reaped_at_the_second_look(clock, child):
    reaper = OrphanReaper(clock, lambda: True)
    reaper.startService()
    clock.advance(INTERVAL)
    assert is_zombie(child), "its own parent may be about to wait for it"
    clock.advance(INTERVAL)
    assert not is_zombie(child)
    reaper.stopService()
    assert clock.getDelayedCalls() == []


def test_a_child_of_twisted_is_left_to_twisted(clock, child, monkeypatch):
    monkeypatch.setitem(reapProcessHandlers, child, object())
    OrphanReaper(clock, lambda: True).startService()
    clock.pump([INTERVAL] * 3)
    assert is_zombie(child)


def test_a_running_child_is_not_reaped(clock):
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writes)
        os.read(reads, 1)
        os._exit(0)
    OrphanReaper(clock, lambda: True).startService()
    clock.pump([INTERVAL] * 3)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.close(writes)
    assert os.waitpid(pid, 0) == (pid, 0)
    os.close(reads)


def test_any_other_process_reaps_nothing(clock, child):
    OrphanReaper(clock).startService()
    assert clock.getDelayedCalls() == []
    assert is_zombie(child)
