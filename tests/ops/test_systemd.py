"""systemd is notified of the start, the reload and the stop, and gets watchdog messages."""

import os
import socket

import pytest
from twisted.internet.task import Clock

from esxiproxy.ops.process.systemd import Notify, SystemdService


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address):
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self):
        found = []
        while True:
            try:
                text = self._socket.recv(4096).decode()
            except BlockingIOError:
                return found
            found.append(dict(line.split("=", 1) for line in text.split("\n")))

    def close(self):
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    address = str(tmp_path / "notify") if request.param == "path" else f"@esxiproxy-test-{os.getpid()}"
    systemd = Systemd(address)
    yield systemd
    systemd.close()


class Unit:
    """A service with a systemd watchdog."""

    def __init__(self, systemd, **environ):
        self.clock = Clock()
        self.consoles = 0
        self.notify = Notify.from_environment({"NOTIFY_SOCKET": systemd.address, **environ})
        self.service = SystemdService(
            self.clock, self.notify, lambda: f"{self.consoles} consoles", lambda: 12_345_678_999
        )

    def start(self):
        self.service.startService()
        return self


def test_ready_is_sent_when_the_loop_runs(systemd):
    unit = Unit(systemd).start()
    assert systemd.heard() == []
    unit.clock.advance(0)
    assert systemd.heard() == [{"READY": "1", "STATUS": "0 consoles"}]


def test_a_status_is_sent_when_it_changes(systemd):
    unit = Unit(systemd).start()
    unit.clock.advance(0), systemd.heard()
    unit.clock.advance(5)
    assert systemd.heard() == []
    unit.consoles = 7
    unit.clock.advance(5)
    assert systemd.heard() == [{"STATUS": "7 consoles"}]


def test_the_watchdog_is_notified_twice_in_its_interval(systemd):
    unit = Unit(systemd, WATCHDOG_USEC="4000000", WATCHDOG_PID=str(os.getpid())).start()
    unit.clock.advance(0), systemd.heard()
    unit.clock.pump([1] * 6)
    assert [told for told in systemd.heard() if "WATCHDOG" in told] == [{"WATCHDOG": "1"}] * 3


@pytest.mark.parametrize("environ", [{}, {"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}])
def test_a_watchdog_that_is_off_or_for_another_process_is_not_notified(systemd, environ):
    unit = Unit(systemd, **environ).start()
    unit.clock.advance(0), systemd.heard()
    unit.clock.pump([1] * 60)
    assert systemd.heard() == []


def test_a_reload_is_sent_with_its_time_and_ends_with_ready(systemd):
    unit = Unit(systemd).start()
    unit.clock.advance(0), systemd.heard()
    unit.service.reloading()
    unit.service.ready()
    assert systemd.heard() == [
        {"RELOADING": "1", "MONOTONIC_USEC": "12345678"},
        {"READY": "1", "STATUS": "0 consoles"},
    ]


def test_a_drain_gets_the_time_that_it_may_take(systemd):
    unit = Unit(systemd).start()
    unit.clock.advance(0), systemd.heard()
    unit.service.stopping(125.0)
    assert systemd.heard() == [
        {"STOPPING": "1", "STATUS": "draining, for 125 s at most", "EXTEND_TIMEOUT_USEC": "130000000"}
    ]


def test_nothing_is_sent_after_the_stop(systemd):
    unit = Unit(systemd, WATCHDOG_USEC="4000000").start()
    unit.clock.advance(0)
    unit.service.stopService()
    systemd.heard()
    unit.consoles = 1
    unit.clock.pump([1] * 20)
    assert systemd.heard() == [] and not unit.clock.getDelayedCalls()


def test_a_full_queue_blocks_nothing_and_ready_is_sent_later(systemd):
    unit = Unit(systemd)
    while unit.notify.send(STATUS="x" * 1000):
        pass
    unit.start()
    unit.clock.advance(0)
    assert not any("READY" in told for told in systemd.heard())
    unit.clock.advance(0.1)
    assert systemd.heard() == [{"READY": "1", "STATUS": "0 consoles"}]


@pytest.mark.parametrize("refused", range(1, 5))
def test_messages_that_wait_for_a_full_queue_keep_their_order(refused):
    # The last message is the state of the service: with RELOADING behind READY, it reloads for ever.
    clock, sent, tries = Clock(), [], iter(range(100))

    class Queue(Notify):
        def send(self, **fields):
            if next(tries) < refused:
                return False
            sent.append(next(iter(fields)))
            return True

    service = SystemdService(clock, Queue("/run/systemd/notify"), lambda: f"{clock.seconds()} s")
    service.startService()
    service.reloading(), service.ready(), service.reloading(), service.ready(), service.stopping(30.0)
    clock.pump([0.1] * 60)
    assert sent[:5] == ["RELOADING", "READY", "RELOADING", "READY", "STOPPING"]
    assert set(sent[5:]) <= {"STATUS"}
    service.stopService()
    assert not clock.getDelayedCalls()


def test_a_missing_systemd_is_no_error(tmp_path):
    notify = Notify.from_environment({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert notify.send(READY=1)


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_systemd_nothing_is_done(environ):
    clock = Clock()
    service = SystemdService(clock, Notify.from_environment({**environ, "WATCHDOG_USEC": "1000000"}))
    service.startService()
    assert not clock.getDelayedCalls()
    service.reloading(), service.ready(), service.stopping(30.0)
    service.stopService()


def test_a_status_is_one_line(systemd):
    clock = Clock()
    notify = Notify.from_environment({"NOTIFY_SOCKET": systemd.address})
    SystemdService(clock, notify, lambda: "a\nSTOPPING=1").ready()
    assert systemd.heard() == [{"READY": "1", "STATUS": "a STOPPING=1"}]
