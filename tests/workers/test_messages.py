"""The messages between master and workers, also those of other versions."""

import json

from twisted.internet.task import Clock

from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.ops.metrics.files import ENVIRONMENT
from esxiproxy.workers.__main__ import _read_first_line as first_line
from esxiproxy.workers.master.worker_process import WorkerProcess
from esxiproxy.workers.plan import Plan
from esxiproxy.workers.shared.lines import MAX_LINE, LineSplitter
from esxiproxy.workers.shared.messages import Launch, WorkerConfig


def test_lines_are_split_from_any_pieces():
    lines, whole = LineSplitter(), b'["ready", "a"]\n["log", 1]\nno json\n{}\n[]\n["shut"]\n'
    found = [message for byte in whole for message in lines.messages(bytes([byte]))]
    assert found == [["ready", "a"], ["log", 1], ["shut"]]


def test_a_line_without_an_end_is_cut():
    lines = LineSplitter()
    assert lines.feed(b"x" * MAX_LINE) == []
    assert [len(line) for line in lines.feed(b"y")] == [MAX_LINE + 1]
    assert lines.feed(b"z\n") == [b"z"]


LAUNCH = Launch("/proxy.ini", "/state", "run 1", 1.0, 2, {})


def test_a_worker_has_the_identity_that_the_master_gives():
    order, _ = WorkerConfig.for_worker(1, Plan(2, (), "", 30.0, machine="here"), LAUNCH, {}, 7, (8, 9))
    order = WorkerConfig.read(order.line())
    assert order.identity == ProcessIdentity("here", "run 1", "1", 2) and order.master_has_admin


def test_a_worker_of_an_earlier_master_has_its_own_run():
    earlier = {name: value for name, value in ORDER.items() if name in EARLIER}
    order = WorkerConfig.read(json.dumps(earlier).encode())
    assert not order.master_has_admin and order.identity.worker == "1"
    assert order.identity.run and order.identity.run != WorkerConfig.read(order.line()).identity.run


def test_a_worker_of_an_earlier_version_gets_no_field_that_it_does_not_know():
    """The plan of such a worker, which has no machine, shows the version."""
    order, _ = WorkerConfig.for_worker(1, Plan(2, (), "", 30.0), LAUNCH, {}, 7, (8, 9))
    assert set(json.loads(order.line())) == EARLIER


def test_a_worker_ignores_fields_of_a_later_master():
    assert WorkerConfig.read(json.dumps(ORDER | {"later": 1}).encode()).run == "run 1"


EARLIER = {"number", "config", "endpoints", "listeners", "state", "board", "wakes", "content"}
"""The fields that a worker knew before there was an admin process."""


ORDER = {
    **{"number": 1, "config": "/proxy.ini", "endpoints": [], "listeners": {}, "state": "/state", "board": 5},
    **{"wakes": [6], "content": "", "machine": "here", "run": "run 1", "generation": 2},
}


def test_the_folder_of_metrics_is_given_and_not_inherited(monkeypatch):
    """Metrics of an operator's own variable are not those of this proxy."""

    class Reactor(Clock):
        def spawnProcess(self, protocol, program, arguments, environment, childFDs):
            self.given = environment

    monkeypatch.setenv(ENVIRONMENT, "/of/the/operator")
    monkeypatch.setenv("NOTIFY_SOCKET", "/systemd")
    order = WorkerConfig(1, "/proxy.ini", (), {}, "/state", 5, (6,))
    for folder in ({}, {ENVIRONMENT: "/ours"}):
        reactor = Reactor()
        WorkerProcess(order, None, reactor, folder).start({})
        assert reactor.given.get(ENVIRONMENT) == folder.get(ENVIRONMENT)
        assert "NOTIFY_SOCKET" not in reactor.given and "PATH" in reactor.given


def test_a_worker_configuration_of_any_length_is_read_with_the_bytes_behind_it(tmp_path):
    line = WorkerConfig(1, "/proxy.ini", (), {}, "/state", 5, (6,), "; x\n" * 50_000).line()
    (tmp_path / "orders").write_bytes(line + b'["open"]\n["ret')
    with open(tmp_path / "orders", "rb") as orders:
        assert first_line(orders.fileno()) == (line[:-1], b'["open"]\n["ret')
