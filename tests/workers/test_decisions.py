"""Decisions of the master and its workers, without a process."""

import fcntl
import grp
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock

from esxiproxy.app.preflight import load
from esxiproxy.core.config.model import ADMIN_MANHOLE, ADMIN_PROBE, ADMIN_SOCKET, MANHOLE
from esxiproxy.core.errors import WorkerLost
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.lost_record import lost_record
from esxiproxy.ops.metrics.files import ENVIRONMENT
from esxiproxy.workers.__main__ import _read_first_line as first_line
from esxiproxy.workers.master.backoff import LONGEST_DELAY, STABLE_AFTER, Backoff
from esxiproxy.workers.master.plan_reader import read_plan
from esxiproxy.workers.master.state_directory import StateDirectory
from esxiproxy.workers.master.watchdog import HEARTBEAT_TIMEOUT, Watchdog, WorkerHealth
from esxiproxy.workers.master.worker_process import WorkerProcess
from esxiproxy.workers.plan import Plan, plan_of, state_of
from esxiproxy.workers.shared.balancing import STALE, WorkerLoad, may_accept
from esxiproxy.workers.shared.lines import MAX_LINE, LineSplitter
from esxiproxy.workers.shared.messages import Launch, WorkerConfig
from esxiproxy.workers.shared.scoreboard import Scoreboard
from tests.support.config import ini, listener, upstream

NOW = 1000.0


def shares(*held, seen=NOW):
    return [WorkerLoad(count, seen) for count in held]


class TestSpread:
    def test_the_one_with_the_fewest_always_may(self):
        for held in ((0, 0), (5, 5), (0, 9, 9), (7, 8, 9), (500, 500, 499, 501)):
            assert may_accept(held.index(min(held)), shares(*held), NOW)

    def test_a_worker_over_its_share_may_not_accept(self):
        assert not may_accept(0, shares(10, 0), NOW)
        assert not may_accept(0, shares(530, 500, 500, 470), NOW)
        assert may_accept(0, shares(505, 500, 500, 495), NOW)

    def test_no_worker_gets_a_fifth_more_than_the_mean_in_any_order(self):
        for workers in (2, 3, 4, 8, 16):
            held = [0] * workers
            for _ in range(1000):
                number = next(n for n in range(workers) if may_accept(n, shares(*held), NOW))
                held[number] += 1
            assert max(held) <= 1.2 * 1000 / workers, held

    def test_a_worker_without_a_heartbeat_does_not_count(self):
        mine, dead = WorkerLoad(10, NOW), WorkerLoad(0, NOW - STALE - 0.1)
        assert may_accept(0, [mine, dead], NOW)
        assert not may_accept(0, [mine, WorkerLoad(0, NOW - STALE / 2)], NOW)

    def test_a_worker_that_accepts_no_connections_does_not_count(self):
        assert may_accept(0, [WorkerLoad(10, NOW), WorkerLoad(0, 0.0)], NOW)
        assert may_accept(0, [WorkerLoad(10, NOW), WorkerLoad(0, -NOW)], NOW)

    def test_a_worker_with_a_late_heartbeat_counts_its_own_connections(self):
        assert may_accept(0, [WorkerLoad(10, NOW - 9), WorkerLoad(10, NOW)], NOW)
        assert not may_accept(0, [WorkerLoad(20, 0.0), WorkerLoad(10, NOW)], NOW)


class TestBackoff:
    def test_the_delay_doubles_up_to_half_a_minute(self):
        backoff = Backoff()
        delays = [backoff.next_delay(0.5) for _ in range(12)]
        assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
        assert delays[-2:] == [LONGEST_DELAY, LONGEST_DELAY]

    def test_the_first_one_may_be_at_once(self):
        backoff = Backoff(0.0)
        assert [backoff.next_delay(0.5) for _ in range(4)] == [0.0, 0.1, 0.2, 0.4]

    def test_after_a_good_life_it_is_at_once_and_begins_again(self):
        backoff = Backoff()
        for _ in range(5):
            backoff.next_delay(1.0)
        assert backoff.next_delay(STABLE_AFTER) == 0.0
        assert backoff.next_delay(1.0) == 0.1


class TestWatch:
    def test_a_silent_worker_is_logged_once_and_then_killed(self):
        watch, told = Watchdog(), []
        for look in range(HEARTBEAT_TIMEOUT + 3):
            told.append(watch.check({0: 5.0, 1: float(look + 1)}))
        assert told[1] == {0: WorkerHealth.SILENT}
        assert told[HEARTBEAT_TIMEOUT] == {0: WorkerHealth.LOST}
        assert [verdict for verdict in told if verdict] == [told[1], told[HEARTBEAT_TIMEOUT]]

    def test_a_worker_that_recovers_is_logged(self):
        watch = Watchdog()
        assert [watch.check({0: sign}) for sign in (1.0, 1.0, 1.0, 2.0, 3.0)] == [
            {},
            {0: WorkerHealth.SILENT},
            {},
            {0: WorkerHealth.BACK},
            {},
        ]

    def test_a_successor_begins_anew(self):
        watch = Watchdog()
        assert watch.check({0: 1.0}) == {} and watch.check({0: 1.0}) == {0: WorkerHealth.SILENT}
        assert watch.check({}) == {}
        assert watch.check({0: 1.0}) == {}


class TestBoard:
    def test_other_processes_read_the_scoreboard(self):
        one = Scoreboard.new(3)
        other = Scoreboard(os.dup(one.descriptor), 3)
        other.set_connections(1, 17)
        other.heartbeat(1, 5_000_000_000)
        assert one.loads() == [WorkerLoad(0, 0.0), WorkerLoad(17, 5.0), WorkerLoad(0, 0.0)]
        one.clear(1)
        assert other.loads() == [WorkerLoad(0, 0.0)] * 3
        one.close(), other.close()

    def test_a_failed_mapping_leaves_no_descriptor(self, monkeypatch):
        def no_memory(*_):
            raise OSError(12, "Cannot allocate memory")

        monkeypatch.setattr("mmap.mmap", no_memory)
        before = set(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match="Cannot allocate memory"):
            Scoreboard.new(3)
        assert set(os.listdir("/proc/self/fd")) == before


class TestStateFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        folder = StateDirectory({"RUNTIME_DIRECTORY": f"{tmp_path}:/other"})
        yield folder
        folder.remove()
        assert [path for path in tmp_path.iterdir() if path.name.startswith("esxiproxy-")] == []

    def test_the_directory_is_the_same_while_it_exists(self, folder):
        database = folder.database
        assert Path(database).parent.is_dir() and folder.database == database

    def test_a_removed_directory_is_created_again(self, folder):
        before = Path(folder.database).parent
        before.rmdir()
        after = Path(folder.database).parent
        assert after.is_dir() and after != before

    def test_a_directory_made_in_its_place_is_neither_used_nor_removed(self, folder, tmp_path):
        mine = Path(folder.database).parent
        mine.rename(tmp_path / "elsewhere")
        mine.mkdir()
        assert Path(folder.database).parent != mine and mine.is_dir()
        mine.rmdir()

    def test_the_state_directory_is_locked_against_cleaners(self, folder):
        descriptor = os.open(Path(folder.database).parent, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)


class TestMetricsFolder:
    def test_the_directory_is_private_and_exists_as_long_as_its_parent(self, tmp_path):
        directory = StateDirectory({"RUNTIME_DIRECTORY": str(tmp_path)})
        folder = Path(directory.metrics)
        (folder / "counter.db").write_text("")
        assert directory.metrics == str(folder) and (folder / "counter.db").exists()
        assert folder.stat().st_mode & 0o777 == 0o700 and folder.parent == Path(directory.database).parent
        directory.remove()
        assert not folder.exists()
        assert list(Path(directory.metrics).iterdir()) == []
        directory.remove()


class TestReading:
    def test_a_system_that_starts_no_process_refuses_the_file(self):
        class Reactor(Clock):
            def spawnProcess(self, *_):
                raise OSError(11, "Resource temporarily unavailable")

        found = []
        reading = ensureDeferred(read_plan(Path("/proxy.ini"), Reactor()))
        reading.addErrback(lambda failure: found.extend(failure.value.lines))
        assert found == [f"/proxy.ini cannot be read: {sys.executable}: Resource temporarily unavailable"]


class TestLines:
    def test_lines_are_split_from_any_pieces(self):
        lines, whole = LineSplitter(), b'["ready", "a"]\n["log", 1]\nno json\n{}\n[]\n["shut"]\n'
        found = [message for byte in whole for message in lines.messages(bytes([byte]))]
        assert found == [["ready", "a"], ["log", 1], ["shut"]]

    def test_a_line_without_an_end_is_cut(self):
        lines = LineSplitter()
        assert lines.feed(b"x" * MAX_LINE) == []
        assert [len(line) for line in lines.feed(b"y")] == [MAX_LINE + 1]
        assert lines.feed(b"z\n") == [b"z"]


class TestPlan:
    @pytest.fixture
    def config(self, tmp_path):
        (tmp_path / "proxy.ini").write_text(
            ini(
                listener(listen=":80"),
                upstream("ws://192.0.2.1"),
                workers=3,
                manhole=2222,
                manhole_keys="keys",
                drain_timeout="7s",
                close_timeout="2s",
            )
        )
        (tmp_path / "keys").write_text("")
        return load(tmp_path / "proxy.ini")

    def test_it_has_the_settings_of_the_master(self, config):
        plan = plan_of(config)
        assert plan.workers == 3 and plan.drain == 9.0 and plan.state == ""
        assert plan.endpoints == (
            ("one", "tcp:port=80:interface=0.0.0.0:backlog=512"),
            (MANHOLE, "tcp:port=2222:interface=127.0.0.1:backlog=512"),
        )

    def test_it_has_the_file_as_it_was_read_for_later_workers(self, config, tmp_path):
        file = tmp_path / "proxy.ini"
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes() + "; schön\r\n".encode())
        plan = Plan.read(plan_of(load(file)).text())
        order = WorkerConfig(0, str(file), plan.endpoints, {}, "", 5, (6,), plan.content)
        wanted = load(file)
        file.write_text("[listener half")
        content = WorkerConfig.read(order.line()).content.encode()
        assert content == wanted.content and load(file, content) == wanted
        assert wanted.manhole == config.manhole

    def test_the_children_have_the_redis_database_with_its_files(self, tmp_path):
        (tmp_path / "pw").write_text("pa55word\n")
        text = ini(
            listener(), upstream("ws://192.0.2.1"), state="redis://proxy@r1/2", state_password_file="pw"
        )
        (tmp_path / "proxy.ini").write_text(text)
        config = load(tmp_path / "proxy.ini")
        plan = plan_of(config)
        assert plan.state == "redis://proxy@r1:6379/2" and "pa55word" not in plan.text()
        assert state_of(config, plan.state) == config.state
        assert config.state.password_file == tmp_path / "pw"
        assert state_of(replace(config, state=None), "/run/x") == Path("/run/x")

    def test_a_plan_is_read_from_its_line(self, config):
        plan = plan_of(config)
        assert Plan.read(plan.text()) == plan
        assert Plan.read(json.dumps(json.loads(plan.text()) | {"of a later version": 1})) == plan

    def test_it_has_the_warnings_as_text_and_that_of_an_earlier_version_has_none(self, tmp_path):
        (tmp_path / "proxy.ini").write_text(
            listener(listen=":80", proxy_protocol=True) + upstream("ws://192.0.2.1")
        )
        plan = plan_of(load(tmp_path / "proxy.ini"))
        (warning,) = Plan.read(plan.text()).warnings
        assert warning.startswith(f"{tmp_path / 'proxy.ini'}:4: warning: [listener one] proxy_protocol: ")
        earlier = json.loads(plan.text())
        del earlier["warnings"]
        assert Plan.read(json.dumps(earlier)).warnings == ()

    def test_it_says_what_the_admin_process_needs(self, tmp_path):
        text = (
            "[proxy]\nmachine = Here.example.com\n{proxy}"
            "[listener one]\nlisten = :80\nupstream = u\n[upstream u]\nurl = ws://192.0.2.1\n{admin}"
        )
        group = grp.getgrgid(0).gr_name

        def planned(proxy="", admin=""):
            (tmp_path / "proxy.ini").write_text(text.format(proxy=proxy, admin=admin))
            return Plan.read(plan_of(load(tmp_path / "proxy.ini")).text())

        without = planned()
        assert (without.needs_admin, without.admin_endpoints) == (False, ())
        assert without.machine.lower() == "here.example.com"
        services = planned(proxy="services = demo\n")
        assert (services.needs_admin, services.admin_endpoints) == (True, ())
        admin = planned(
            admin=f"[admin]\nsocket = a.sock\nsocket_group = {group}\nprobe_listen = 127.0.0.1:9000\n"
        )
        assert admin.needs_admin and admin.socket_group == group
        assert admin.admin_endpoints == (
            (ADMIN_SOCKET, f"unix:{tmp_path}/a.sock:mode=600"),
            (ADMIN_PROBE, "tcp:port=9000:interface=127.0.0.1:backlog=512"),
        )
        assert admin.endpoints == without.endpoints

    def test_the_manhole_is_for_the_admin_process_if_there_is_one(self, tmp_path):
        (tmp_path / "keys").write_text("")
        path = tmp_path / "proxy.ini"
        rest = "[listener one]\nlisten = :80\nupstream = u\n[upstream u]\nurl = ws://192.0.2.1\n"

        def planned(proxy="", admin=""):
            path.write_text(f"[proxy]\nmanhole = 2222\nmanhole_keys = keys\n{proxy}{rest}{admin}")
            return Plan.read(plan_of(load(path)).text())

        ssh = (MANHOLE, "tcp:port=2222:interface=127.0.0.1:backlog=512")
        without = planned()
        assert ssh in without.endpoints and without.admin_endpoints == ()
        services = planned(proxy="services = demo\n")
        assert ssh not in services.endpoints and services.admin_endpoints == (ssh,)
        admin = planned(admin="[admin]\nsocket = a.sock\n")
        assert ssh not in admin.endpoints
        assert admin.admin_endpoints == (
            (ADMIN_SOCKET, f"unix:{tmp_path}/a.sock:mode=600"),
            (ADMIN_MANHOLE, f"unix:{tmp_path}/a.sock.manhole:mode=600"),
            ssh,
        )

    def test_that_of_an_earlier_version_needs_no_admin_process(self, config):
        earlier = json.loads(plan_of(config).text())
        for name in ("machine", "needs_admin", "admin_endpoints", "socket_group"):
            del earlier[name]
        plan = Plan.read(json.dumps(earlier))
        assert (plan.machine, plan.needs_admin, plan.admin_endpoints, plan.socket_group) == (
            "",
            False,
            (),
            "",
        )

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"workers": "two"}', "null"])
    def test_an_invalid_plan_is_a_value_error(self, text):
        with pytest.raises(ValueError):
            Plan.read(text)

    def test_an_order_survives_its_line(self):
        order = WorkerConfig(1, "/proxy.ini", (("one", "tcp:1"),), {"one": 5}, "/state", 6, (7, 8))
        assert WorkerConfig.read(order.line()) == order


LAUNCH = Launch("/proxy.ini", "/state", "run 1", 1.0, 2, {})


class TestVersions:
    def test_a_worker_has_the_identity_that_the_master_gives(self):
        order, _ = WorkerConfig.for_worker(1, Plan(2, (), "", 30.0, machine="here"), LAUNCH, {}, 7, (8, 9))
        order = WorkerConfig.read(order.line())
        assert order.identity == ProcessIdentity("here", "run 1", "1", 2) and order.master_has_admin

    def test_a_worker_of_an_earlier_master_has_its_own_run(self):
        earlier = {name: value for name, value in ORDER.items() if name in EARLIER}
        order = WorkerConfig.read(json.dumps(earlier).encode())
        assert not order.master_has_admin and order.identity.worker == "1"
        assert order.identity.run and order.identity.run != WorkerConfig.read(order.line()).identity.run

    def test_a_worker_of_an_earlier_version_gets_no_field_that_it_does_not_know(self):
        """The plan of such a worker, which has no machine, shows the version."""
        order, _ = WorkerConfig.for_worker(1, Plan(2, (), "", 30.0), LAUNCH, {}, 7, (8, 9))
        assert set(json.loads(order.line())) == EARLIER

    def test_a_worker_ignores_fields_of_a_later_master(self):
        assert WorkerConfig.read(json.dumps(ORDER | {"later": 1}).encode()).run == "run 1"


EARLIER = {"number", "config", "endpoints", "listeners", "state", "board", "wakes", "content"}
"""The fields that a worker knew before there was an admin process."""
ORDER = {
    **{"number": 1, "config": "/proxy.ini", "endpoints": [], "listeners": {}, "state": "/state", "board": 5},
    **{"wakes": [6], "content": "", "machine": "here", "run": "run 1", "generation": 2},
}


class TestEnvironment:
    def test_the_folder_of_metrics_is_given_and_not_inherited(self, monkeypatch):
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


def test_an_order_of_any_length_is_read_with_the_bytes_behind_it(tmp_path):
    line = WorkerConfig(1, "/proxy.ini", (), {}, "/state", 5, (6,), "; x\n" * 50_000).line()
    (tmp_path / "orders").write_bytes(line + b'["open"]\n["ret')
    with open(tmp_path / "orders", "rb") as orders:
        assert first_line(orders.fileno()) == (line[:-1], b'["open"]\n["ret')


@pytest.mark.parametrize(
    "client", [PeerAddress("192.0.2.1", 7), PeerAddress("2001:db8::1", 7), PeerAddress("unix", 0)], ids=str
)
def test_an_address_is_read_as_it_was_written(client):
    assert PeerAddress.read(str(client)) == client


def test_the_record_of_a_lost_session_says_so():
    entry = SessionEntry(
        "5e55", "holder", "one", "[2001:db8::1]:4711", "alice", "/ticket/***", "esxi1", 100.0, trace_id="4bf9"
    )
    record = lost_record(entry, WorkerLost("it crashed"), 160.5)
    assert (record.session, record.error, record.status) == ("5e55", "WorkerLost", 101)
    assert record.trace_id == "4bf9"
    assert (record.client.host, record.client.port) == ("2001:db8::1", 4711)
    assert record.phases == {"closed": 60.5}
