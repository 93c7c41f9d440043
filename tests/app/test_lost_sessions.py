"""One proxy records the sessions of another one that crashed, on a state in memory and a fake clock."""

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher

from esxiproxy.app.lost_sessions import CHECK_INTERVAL, RECORDS_AT_ONCE, LostSessions
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.state.lease import LEASE, LOST_AFTER
from esxiproxy.state.memory import Memory, MemoryState

DAY = 1_700_000_000.0


class Machines:
    """Proxies that share a state; one of them may crash."""

    def __init__(self):
        self.clock = Clock()
        self.memory = Memory(lambda: DAY + self.clock.seconds())
        self.records = []

    def proxy(self):
        """Start a proxy, and return its state and its service."""
        state = MemoryState(self.clock, self.memory)
        service = LostSessions(
            state, lambda record: self.records.append((state, record)), self.clock, self.memory.time_of_day
        )
        state.start(lambda command: None)
        service.startService()
        return state, service

    def dead(self, sessions, machine="proxy-a"):
        """Start a proxy with so many sessions, which crashes at once."""
        state = MemoryState(self.clock, self.memory)
        state.start(lambda command: None)
        for number in range(sessions):
            entry = SessionEntry(
                *(
                    f"{machine}-{number}",
                    state.instance_id,
                    "one",
                    "192.0.2.7:4711",
                    "alice",
                    "/ticket/***",
                    "esxi1",
                ),
                since=DAY,
                host="esx01",
                machine=machine,
            )
            state.publish(entry)
        state._renewal.stop()

    def advance(self, seconds):
        self.clock.pump([0.5] * int(seconds * 2))


@pytest.fixture
def machines():
    return Machines()


@pytest.fixture
def told():
    """Return the error lines of the log."""
    lines = []

    def observe(event):
        if event["log_level"] >= LogLevel.error:
            lines.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def test_each_session_is_recorded_once_with_the_name_of_its_machine(machines, told):
    for _ in range(3):
        machines.proxy()
    machines.dead(2)
    machines.advance(LOST_AFTER)
    assert machines.records == [] and told == []
    machines.advance(LEASE + 2 * CHECK_INTERVAL)
    records = sorted((record for _, record in machines.records), key=lambda record: record.session)
    assert [record.session for record in records] == ["proxy-a-0", "proxy-a-1"]
    assert {(record.error, record.machine, record.status) for record in records} == {
        ("ProxyLost", "proxy-a", 101)
    }
    assert all("proxy-a" in record.detail and record.host == "esx01" for record in records)
    assert LEASE + LOST_AFTER <= records[0].phases["closed"] <= LEASE + LOST_AFTER + CHECK_INTERVAL + LEASE
    (line,) = told
    assert "proxy-a" in line and "2 sessions" in line
    machines.advance(1000)
    assert len(machines.records) == 2


def test_a_machine_without_a_name_is_recorded(machines):
    """Entries of its version have no machine."""
    machines.proxy()
    machines.dead(1, machine="")
    machines.advance(LEASE + LOST_AFTER + 2 * CHECK_INTERVAL)
    ((_, record),) = machines.records
    assert "an unknown machine" in record.detail


def test_many_records_are_written_in_several_turns(machines):
    machines.proxy()
    machines.dead(2 * RECORDS_AT_ONCE + 1)
    written, later = [], machines.clock.callLater

    def call_later(seconds, *call):
        if seconds == 0:
            written.append(len(machines.records))
        return later(seconds, *call)

    machines.clock.callLater = call_later
    machines.advance(LEASE + LOST_AFTER + 2 * CHECK_INTERVAL)
    assert written == [RECORDS_AT_ONCE, 2 * RECORDS_AT_ONCE]
    assert len(machines.records) == 2 * RECORDS_AT_ONCE + 1


def test_the_end_waits_for_the_records_that_have_begun(machines):
    _, service = machines.proxy()
    write, finished = service._record, []

    def record(one):
        if not machines.records:
            finished.append(Deferred.fromCoroutine(service.finish()))
            finished[0].addCallback(lambda _: finished.append(len(machines.records)))
        assert not finished[0].called
        write(one)

    service._record = record
    machines.dead(RECORDS_AT_ONCE + 1)
    machines.dead(1, machine="proxy-b")
    machines.advance(LEASE + LOST_AFTER + 5 * CHECK_INTERVAL)
    assert finished[1] == len(machines.records) == RECORDS_AT_ONCE + 1


def test_a_state_that_is_away_is_asked_again_and_one_that_was_stopped_is_not(machines, told):
    state, service = machines.proxy()
    asked = []

    def away(seconds):
        asked.append(seconds)
        return fail(StateUnavailable("it is away"))

    state.reclaim_expired = away
    machines.advance(3 * CHECK_INTERVAL)
    assert asked == [LOST_AFTER] * 3
    (line,) = told
    assert "looking for proxies that died" in line and "it is away" in line
    service.stopService()
    machines.advance(3 * CHECK_INTERVAL)
    assert len(asked) == 3


def test_a_record_that_cannot_be_written_does_not_hide_the_next(machines, told):
    _, service = machines.proxy()
    write, attempts = service._record, []

    def first_fails(record):
        attempts.append(record)
        if len(attempts) == 1:
            raise OSError("the disk is full")
        write(record)

    service._record = first_fails
    machines.dead(2)
    machines.advance(LEASE + LOST_AFTER + 2 * CHECK_INTERVAL)
    assert [record.session for _, record in machines.records] == ["proxy-a-1"]
    assert any("session proxy-a-0 of a lost proxy" in line for line in told)
