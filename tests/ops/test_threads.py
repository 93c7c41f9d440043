"""The threads of the pool do not block the exit of a real process."""

import threading
from types import SimpleNamespace

import pytest
from twisted.logger import capturedLogs
from twisted.python.threadpool import ThreadPool

from esxiproxy.ops.process import threads
from esxiproxy.ops.process.threads import Threads


@pytest.fixture
def pool():
    pool = ThreadPool(0, 2)
    Threads(SimpleNamespace(getThreadPool=lambda: pool)).startService()
    pool.start()
    return pool


def test_a_call_that_ends_soon_is_waited_for(pool):
    begun, done = threading.Event(), []
    pool.callInThread(lambda: (begun.wait(5), done.append(1)))
    pool.callInThread(begun.set)
    with capturedLogs() as told:
        pool.stop()
    assert done == [1] and not told and not any(thread.is_alive() for thread in pool.threads)


def test_a_call_that_hangs_is_not_waited_for_nor_those_behind_it(pool, monkeypatch):
    monkeypatch.setattr(threads, "STOP_TIMEOUT", 0.05)
    released = threading.Event()
    for _ in range(5):
        pool.callInThread(released.wait, 30)
    with capturedLogs() as told:
        pool.stop()
    assert [event["log_level"].name for event in told] == ["warn"]
    assert len(pool.threads) == 2 and all(thread.daemon and thread.is_alive() for thread in pool.threads)
    released.set()
