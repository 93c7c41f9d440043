"""The thread of a state, which is never joined."""

import subprocess
import sys
import threading

import pytest

from esxiproxy.state.thread import DaemonThreads


@pytest.fixture
def thread():
    thread = DaemonThreads("state")
    thread.start()
    yield thread
    thread.stop()


class Outcomes:
    """The outcomes of a thread's calls, in order."""

    def __init__(self, count):
        self.all = []
        self._count = count
        self._complete = threading.Event()

    def __call__(self, success, outcome):
        self.all.append((success, outcome, threading.current_thread().name))
        if len(self.all) == self._count:
            self._complete.set()

    def wait(self):
        assert self._complete.wait(10)
        return self.all


def test_calls_are_made_in_order_in_one_thread(thread):
    done = Outcomes(3)
    for number in range(3):
        thread.callInThreadWithCallback(done, divmod, number, 2)
    assert done.wait() == [(True, divmod(number, 2), "state") for number in range(3)]


def test_an_exception_is_the_outcome_of_its_call_and_later_calls_are_made(thread):
    done = Outcomes(2)
    thread.callInThreadWithCallback(done, int, "x")
    thread.callInThreadWithCallback(done, int, "1")
    (failed, failure, _), (went, outcome, _) = done.wait()
    assert not failed and failure.check(ValueError)
    assert went and outcome == 1


def test_calls_before_the_start_are_made_and_the_thread_ends_after_the_last():
    thread, done = DaemonThreads("state"), Outcomes(2)
    worked = []
    thread.callInThreadWithCallback(done, lambda: worked.append(threading.current_thread()))
    thread.start()
    thread.callInThreadWithCallback(done, int, "1")
    thread.stop()
    done.wait()
    worked[0].join(10)
    assert not worked[0].is_alive()


def test_stop_does_not_wait_for_a_running_call(thread):
    begun, go_on, done = threading.Event(), threading.Event(), Outcomes(1)
    thread.callInThreadWithCallback(done, lambda: begun.set() or go_on.wait(10))
    assert begun.wait(10)
    thread.stop()
    assert done.all == []
    go_on.set()
    assert done.wait()[0][:2] == (True, True)


_STUCK = """
import threading
from esxiproxy.state.thread import DaemonThreads

thread, begun = DaemonThreads("state"), threading.Event()
thread.callInThreadWithCallback(print, lambda: begun.set() or threading.Event().wait())
thread.start()
begun.wait()
print("the end")
"""


def test_a_process_exits_while_a_call_hangs():
    ended = subprocess.run(
        [sys.executable, "-c", _STUCK], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "the end\n", "")
