"""The accept gate and the reports of a worker, in one process and with a fake clock."""

import errno
import json
import os

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger

from esxiproxy.workers.shared.balancing import STALE
from esxiproxy.workers.shared.scoreboard import Scoreboard
from esxiproxy.workers.worker.accept_gate import HEARTBEAT_INTERVAL, AcceptGate
from esxiproxy.workers.worker.report_pipe import MAX_BUFFERED, RETRY_INTERVAL, ReportPipe
from tests.support.logs import process_log
from tests.support.reactor import FakeReactor


class Port:
    gate = None
    reads = True
    connected = True

    def stopReading(self):
        self.reads = False

    def startReading(self):
        self.reads = True


class Crowd:
    """Two gates with a port each; gate 1 has a clock of its own, which the test can stop."""

    def __init__(self):
        self.board = Scoreboard.new(2)
        self.wakes = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)]
        self.reactors = FakeReactor(), FakeReactor()
        self.advance(10)
        self.gates = [
            AcceptGate(n, self.board, self.wakes, reactor, lambda: int(self.reactors[0].seconds() * 1e9))
            for n, reactor in enumerate(self.reactors)
        ]
        self.ports = Port(), Port()
        for gate, port in zip(self.gates, self.ports, strict=True):
            gate.attach([port])

    def advance(self, seconds):
        for reactor in self.reactors:
            reactor.advance(seconds)

    def open(self):
        for gate in self.gates:
            gate.open()

    def enter(self, number, count):
        return [
            self.gates[number].count_connection() for _ in range(count) if self.gates[number].may_accept()
        ]

    def wake(self):
        """Read every eventfd that is readable."""
        for reactor in self.reactors:
            for reader in list(reactor.readers):
                reader.doRead()


@pytest.fixture
def crowd():
    crowd = Crowd()
    yield crowd
    crowd.board.close()
    for descriptor in crowd.wakes:
        os.close(descriptor)


class TestAcceptGate:
    def test_no_worker_accepts_before_its_gate_is_open(self, crowd):
        assert [port.reads for port in crowd.ports] == [False, False]
        assert not crowd.gates[0].may_accept()
        crowd.open()
        assert [port.reads for port in crowd.ports] == [True, True]
        assert crowd.ports[0].gate is crowd.gates[0]

    def test_a_worker_with_more_than_its_share_stops_reading(self, crowd):
        crowd.open()
        taken = crowd.enter(0, 50)
        assert len(taken) == 2
        assert (crowd.ports[0].reads, crowd.ports[1].reads) == (False, True)

    def test_a_worker_that_stops_reading_wakes_the_others(self, crowd):
        crowd.open()
        crowd.enter(0, 50)
        assert len(crowd.enter(1, 50)) == 4
        assert (crowd.ports[0].reads, crowd.ports[1].reads) == (False, False)
        crowd.wake()
        assert (crowd.ports[0].reads, crowd.ports[1].reads) == (True, False)

    def test_a_connection_that_ends_opens_its_gate(self, crowd):
        crowd.open()
        first, second = crowd.enter(0, 50)
        first.transport = object()
        first.connectionLost(None)
        assert first.transport is None and crowd.ports[0].reads
        assert crowd.board.loads()[0].connections == 1
        second.connectionLost(None)
        assert crowd.board.loads()[0].connections == 0

    def test_a_hanging_worker_is_not_waited_for(self, crowd):
        crowd.open()
        crowd.enter(0, 50)
        crowd.reactors[0].pump([HEARTBEAT_INTERVAL] * int(STALE / HEARTBEAT_INTERVAL + 2))
        assert crowd.ports[0].reads and len(crowd.enter(0, 50)) == 50

    def test_a_closed_worker_is_not_waited_for(self, crowd):
        crowd.open()
        crowd.enter(0, 50)
        crowd.gates[1].close()
        crowd.wake()
        assert (crowd.ports[0].reads, crowd.ports[1].reads) == (True, False)
        crowd.advance(10 * HEARTBEAT_INTERVAL)
        assert not crowd.ports[1].reads and crowd.reactors[1].readers == set()

    @pytest.mark.parametrize("opened", [True, False])
    def test_a_closed_gate_continues_its_heartbeat(self, crowd, opened):
        crowd.gates[0].open()
        if opened:
            crowd.gates[1].open()
        crowd.gates[1].close()
        seen = []
        for _ in range(3):
            crowd.advance(HEARTBEAT_INTERVAL)
            seen.append(crowd.board.loads()[1].heartbeat_at)
            assert not crowd.gates[1].may_accept() and len(crowd.enter(0, 50)) == 50
        assert len(set(seen)) == 3 and max(seen) < 0

    def test_a_drain_leaves_the_kept_ports_open_and_shuts_all_with_the_gate(self, crowd):
        kept, dropped = Port(), Port()
        crowd.gates[0].attach([kept, dropped])
        crowd.open()
        crowd.gates[0].drain([kept])
        assert (kept.reads, dropped.reads) == (True, False)
        dropped.startReading()
        taken = crowd.enter(0, 50)
        assert len(taken) == 2 and (kept.reads, dropped.reads) == (False, False)
        taken[0].connectionLost(None)
        assert (kept.reads, dropped.reads) == (True, False)

    def test_a_port_that_cannot_be_started_is_started_later(self, crowd):
        full, start = [OSError(errno.ENOSPC, "No space left on device")] * 2, crowd.ports[0].startReading

        def start_reading():
            if full:
                raise full.pop()
            start()

        crowd.ports[0].startReading = start_reading
        with process_log() as log:
            crowd.open()
            assert not crowd.ports[0].reads
            crowd.advance(HEARTBEAT_INTERVAL)
            assert not crowd.ports[0].reads
            crowd.advance(HEARTBEAT_INTERVAL)
        assert crowd.ports[0].reads and len(log) == 2
        assert crowd.board.loads()[0].heartbeat_at == crowd.reactors[0].seconds()

    def test_an_idle_gate_only_has_its_heartbeat(self, crowd):
        crowd.open()
        assert len(crowd.reactors[0].getDelayedCalls()) == 1
        before = crowd.board.loads()[0].heartbeat_at
        crowd.advance(HEARTBEAT_INTERVAL)
        assert crowd.board.loads()[0].heartbeat_at > before


class TestReportPipe:
    @pytest.fixture
    def pipe(self):
        read, write = os.pipe()
        os.set_blocking(read, False)
        yield read, write
        os.close(read), os.close(write)

    def told(self, descriptor):
        octets = b""
        try:
            while True:
                octets += os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return octets

    def test_an_event_is_one_line(self, pipe):
        reports = ReportPipe(pipe[1], Clock())
        log = Logger(namespace="esxiproxy.test", observer=reports)
        log.warn("{count} things\nhappened", count=2)
        (line,) = self.told(pipe[0]).splitlines()
        kind, level, system, _time, text = json.loads(line)
        assert (kind, level, system, text) == ("log", "warn", "esxiproxy.test#warn", "2 things\nhappened")

    def test_a_traceback_follows_the_line(self, pipe):
        reports = ReportPipe(pipe[1], Clock())
        try:
            raise RuntimeError("a bug")
        except RuntimeError:
            Logger(observer=reports).failure("it raised")
        text = json.loads(self.told(pipe[0]))[4]
        assert text.startswith("it raised\n") and text.rstrip().endswith("RuntimeError: a bug")

    def test_a_master_that_reads_nothing_costs_log_lines_and_nothing_else(self, pipe):
        clock = Clock()
        reports = ReportPipe(pipe[1], clock)
        log = Logger(observer=reports)
        for _ in range(3000):
            log.info("{text}", text="x" * 1000)
        reports.send("shut")
        octets = b""
        for _ in range(2 * MAX_BUFFERED // (1 << 16)):
            octets += self.told(pipe[0])
            clock.advance(RETRY_INTERVAL)
        octets += self.told(pipe[0])
        messages = [json.loads(line) for line in octets.splitlines()]
        assert ["shut"] in messages
        lines = sum(1 for message in messages if message[0] == "log" and message[4].startswith("x"))
        (loss,) = [message[4] for message in messages if message[0] == "log" and "dropped" in message[4]]
        assert (
            loss == f"{3000 - lines} log lines dropped: the master did not read them in time" and lines < 3000
        )

    def test_a_report_to_a_lost_master_is_dropped(self):
        read, write = os.pipe()
        os.close(read)
        reports = ReportPipe(write, Clock())
        reports.send("shut")
        reports.send("shut")
        os.close(write)
