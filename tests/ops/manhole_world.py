"""Transports in memory and a state with sessions, for the tests of the manhole's unix sockets."""

import socket

from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection

from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.routing import Upstream
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.reports import PROCESSES, ProcessReport
from esxiproxy.ops.manhole.admin_commands import AdminCommands
from esxiproxy.ops.manhole.directory import SessionDirectory
from esxiproxy.ops.manhole.messages import MessageReader
from esxiproxy.ops.manhole.worker_shells import WorkerShells
from esxiproxy.state.memory import Memory, MemoryState
from esxiproxy.workers.shared.admin_messages import WorkerFacts
from tests.support.outcome import result

OWN = ProcessIdentity("here", "run-1", "admin", 1)
NOW = 1_000_000.0


class PeerTransport(StringTransportWithDisconnection):
    """A transport in memory, whose socket is one end of a pair: its peer is this process."""

    def __init__(self, protocol):
        super().__init__()
        self.protocol = protocol
        self.pair = socket.socketpair()
        self.aborted = False

    def getHandle(self):
        return self.pair[0]

    def abortConnection(self):
        self.aborted = True
        self.loseConnection()

    def loseConnection(self):
        if self.connected:
            for end in self.pair:
                end.close()
            super().loseConnection()


def messages(transport):
    """Return the messages that were written to a transport since the last call."""
    octets = transport.value()
    transport.clear()
    return list(MessageReader().feed(octets))


def entry(session, holder, since=NOW - 60.0, **fields):
    given = {"listener": "one", "client": "198.51.100.7:40000", "principal": "alice", "upstream": "esxi1"}
    return SessionEntry(session, holder, target="/ticket/***", since=since, **given | fields)


class Cluster:
    """The state of two machines: two workers here, one of them also of an old generation, one there."""

    def __init__(self, tmp_path):
        self.reactor = MemoryReactorClock()
        memory = Memory()
        self.state = MemoryState(self.reactor, memory)
        self.others = [MemoryState(self.reactor, memory) for _ in range(4)]
        first, second, old, there = (each.instance_id for each in self.others)
        self.workers = [
            WorkerFacts(1, 0, 4711, first, 0.1, 3, True),
            WorkerFacts(1, 1, 4712, second, 20.0, 0, True),
            WorkerFacts(0, 0, 4700, old, 0.1, 1, False),
            WorkerFacts(2, 1, 4713, "", None, 0, False),
        ]
        report = ProcessReport("there", "run-2", "0", 3)
        result(self.state.put(PROCESSES, there, report.encode(), float("inf")))
        self.directory = SessionDirectory(self.state, OWN, lambda: self.workers)
        self.shells = WorkerShells(tmp_path, lambda: self.workers, self.reactor)
        self.upstreams = (Upstream("esxi1", "192.0.2.10", 443, secure=True),)
        self.folder = tmp_path

    def publish(self):
        for session, state in zip(("aa01", "aa02", "bb03", "cc04"), self.others, strict=True):
            result(state.publish(entry(session, state.instance_id, NOW - 100 + len(session))))

    def commands(self, show=print, idle=lambda: None, operator="somebody"):
        return AdminCommands(
            operator,
            self.directory,
            self.shells,
            lambda: self.upstreams,
            self.reactor,
            show,
            idle,
            lambda: NOW,
        )
