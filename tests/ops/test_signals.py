"""The handlers of SIGTERM, SIGINT, SIGHUP and SIGUSR1, with a fake reactor."""

import os
import signal
import threading

import pytest

from esxiproxy.ops.process.signals import Signals
from tests.support.reactor import FakeReactor

ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class Scene:
    def __init__(self):
        self.reactor, self.calls = FakeReactor(), []
        self.signals = Signals(
            self.reactor,
            lambda: self.calls.append("reload"),
            lambda: self.calls.append("abort"),
            lambda: self.calls.append("reopen"),
        )
        self.signals.privilegedStartService()


@pytest.fixture
def scene():
    before = {number: signal.getsignal(number) for number in ALL}
    yield Scene()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL)
    for number, action in before.items():
        signal.signal(number, action)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_one_stops_and_the_second_one_ends_at_once(scene, number):
    send(number)
    assert scene.reactor.hasStopped and not scene.calls
    send(signal.SIGTERM)
    assert scene.calls == ["abort"]


def test_sighup_reloads_and_ends_nothing(scene):
    send(signal.SIGHUP)
    send(signal.SIGHUP)
    assert scene.calls == ["reload", "reload"] and not scene.reactor.hasStopped


def test_sigusr1_reopens_and_ends_nothing(scene):
    send(signal.SIGUSR1)
    assert scene.calls == ["reopen"] and not scene.reactor.hasStopped


def test_nothing_is_reloaded_on_the_way_out(scene):
    send(signal.SIGTERM)
    send(signal.SIGHUP)
    assert not scene.calls


def test_a_signal_after_the_stop_aborts(scene):
    scene.reactor.stop()
    send(signal.SIGTERM)
    assert scene.calls == ["abort"]


def test_a_signal_during_the_start_of_the_reactor_is_handled_afterwards(scene):
    ((block, arguments, _),) = scene.reactor.triggers["before"]["startup"]
    block(*arguments)
    # To this thread: those of other tests may run still, and they do not block the signal.
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ((running, _, _),) = scene.reactor.whenRunningHooks
    assert not scene.reactor.hasStopped
    running()
    assert scene.reactor.hasStopped and not scene.calls
