"""The master and its admin process, with fakes of both generations, sockets and plans."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from esxiproxy.core.config.model import ADMIN_PROBE, MANHOLE
from esxiproxy.core.reload_outcome import ReloadOutcome
from esxiproxy.core.startup import StartupError
from esxiproxy.ops.metrics.files import ENVIRONMENT
from esxiproxy.workers.master import master as module
from esxiproxy.workers.master.admin_supervisor import FACTS_INTERVAL
from esxiproxy.workers.master.plan_reader import PlanRefused
from esxiproxy.workers.plan import Plan
from esxiproxy.workers.shared.admin_messages import AdminConfig
from esxiproxy.workers.shared.messages import WorkerCommand, WorkerConfig
from tests.workers.master_admin_scene import (
    OTHER_PROBE,
    SHUTTING_DOWN,
    AdminScene,
    plan,
)


@pytest.fixture
def started(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # A start that fails would set the exit status of the process that runs the tests.
    monkeypatch.setattr(module, "atexit", SimpleNamespace(register=lambda *_: None))
    before, scenes = signal.getsignal(signal.SIGUSR1), []

    def start(first):
        scenes.append(AdminScene(tmp_path, first))
        monkeypatch.setattr(module, "read_plan", scenes[-1].read)
        return scenes[-1]

    yield start
    # A start that only the garbage collector ends fails in whatever test runs then.
    for scene in scenes:
        for child in (*scene.generations, *scene.admins):
            if not child.ready.called:
                child.ready.errback(StartupError("the test is over"))
        for admin in scene.admins:
            if not admin.stopped.called:
                admin.stopped.callback(None)
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def scene(started):
    return started(plan())


@pytest.fixture
def serving(scene):
    return scene.serving()


class TestStart:
    def test_the_master_binds_its_sockets_and_workers_do_not_get_them(self, scene):
        assert sorted(scene.reactor.bound) == [81, 90]
        assert scene.generations[0].sockets == {"one": 1081}
        assert scene.admins[0].sockets == {ADMIN_PROBE: 1090}

    def test_it_starts_beside_the_workers_and_all_open_when_all_are_ready(self, scene):
        (workers,), (admin,) = scene.generations, scene.admins
        workers.ready.callback(None)
        assert workers.told == [] and admin.told == []
        admin.ready.callback(None)
        assert workers.told == [WorkerCommand.OPEN] and admin.told == ["open"]

    def test_its_children_have_a_folder_for_metrics_in_the_state_directory(self, scene, tmp_path):
        (folder,) = tmp_path.glob("esxiproxy-*")
        for each in (scene.generations[0], scene.admins[0]):
            assert each.launch.environment == {ENVIRONMENT: f"{folder}/metrics"}
        assert (folder / "metrics").stat().st_mode & 0o777 == 0o700 and ENVIRONMENT not in os.environ

    def test_its_children_have_a_folder_for_shells_with_a_manhole(self, scene, started, tmp_path):
        assert scene.generations[0].launch.shells == ""
        ssh = (MANHOLE, "tcp:2222:interface=127.0.0.1")
        scene = started(replace(plan(), admin_endpoints=(ssh,)))
        launch = scene.generations[0].launch
        assert scene.admins[0].launch == launch and launch.environment == {}
        folder = Path(launch.shells)
        assert folder.parent in tmp_path.glob("esxiproxy-*") and folder.stat().st_mode & 0o777 == 0o700
        worker, _ = WorkerConfig.for_worker(1, scene.generations[0].plan, launch, {}, 3, [4])
        assert WorkerConfig.read(worker.line()).shells == launch.shells
        admin, _ = AdminConfig.of(scene.admins[0].plan, launch, {})
        assert AdminConfig.read(admin.line()).shells == launch.shells

    def test_all_children_know_the_run(self, scene):
        launch = scene.generations[0].launch
        assert scene.admins[0].launch == launch and len(launch.run) == 16 and launch.generation == 0

    def test_one_that_cannot_start_ends_the_start(self, scene):
        scene.generations[0].ready.callback(None)
        ended = []
        scene.master._exit_with_error = ended.append
        scene.admins[0].ready.errback(StartupError("admin process ended with status 1"))
        assert [str(error) for error in ended] == ["admin process ended with status 1"]
        assert scene.generations[0].told == [WorkerCommand.NOW]

    def test_workers_that_cannot_start_end_it(self, scene):
        scene.master._exit_with_error = lambda error: None
        scene.generations[0].ready.errback(StartupError("worker 1 ended with status 1"))
        assert scene.admins[0].told[0] == "now" and scene.admins[0].exited.called

    def test_services_alone_need_one_without_sockets_and_metrics(self, started):
        scene = started(replace(plan(), admin_endpoints=()))
        assert scene.admins[0].sockets == {} and scene.admins[0].launch.environment == {}

    def test_a_configuration_without_both_has_none(self, started):
        scene = started(plan(admin=False))
        scene.generations[0].ready.callback(None)
        assert scene.admins == [] and scene.generations[0].told == [WorkerCommand.OPEN]
        assert scene.reactor.getDelayedCalls() == []


class TestFacts:
    def test_facts_are_sent_each_second_with_the_workers_of_all_generations(self, serving):
        (admin,) = serving.admins
        serving.reactor.pump([FACTS_INTERVAL] * 3)
        assert len(admin.known) == 3
        serving.reload(plan())
        serving.serving()
        serving.reactor.advance(FACTS_INTERVAL)
        known = serving.admins[1].known[-1]
        assert [worker.generation for worker in known.workers] == [0, 1] and not known.ending

    def test_a_shutdown_is_reported_at_once(self, serving):
        serving.master.stopService()
        assert serving.admins[0].known[-1].ending


class TestReload:
    def test_the_new_one_serves_when_the_workers_do_and_the_old_one_ends_with_the_outcome(self, serving):
        old = serving.admins[0]
        outcome = serving.reload(plan())
        assert old.told == ["open", "stop services"]
        serving.serving()
        new = serving.admins[1]
        assert new.told == ["open"] and new.sockets == old.sockets and new.launch.generation == 1
        assert old.told == ["open", "stop services"] and outcome == []
        serving.generations[0].stopped_accepting.callback(None)
        assert outcome == [ReloadOutcome(True)] and old.told[-1] == "end"
        assert new.told == ["open"] and new.launch.run == old.launch.run

    def test_the_requester_has_its_outcome_before_it_is_ended(self, serving):
        old, told = serving.admins[0], []
        old.reload().addCallback(lambda outcome: told.append((outcome, list(old.told))))
        serving.readings[-1].callback(plan())
        old.stopped.callback(None)
        serving.serving()
        serving.generations[0].stopped_accepting.callback(None)
        assert told == [(ReloadOutcome(True), ["open", "stop services"])] and old.told[-1] == "end"

    def test_the_new_one_does_not_start_before_the_old_services_have_stopped(self, serving):
        serving.master.reload()
        serving.readings[-1].callback(plan())
        assert len(serving.admins) == 1
        serving.admins[0].stopped.callback(None)
        assert len(serving.admins) == 2

    def test_a_file_with_problems_gives_its_lines(self, serving):
        outcome = []
        serving.master.reload().addCallback(outcome.append)
        serving.readings[-1].errback(PlanRefused(["proxy.ini:3: no such key", "proxy.ini:4: no"]))
        assert outcome == [ReloadOutcome(False, ("proxy.ini:3: no such key", "proxy.ini:4: no"))]
        assert serving.admins[0].told == ["open"]

    def test_workers_that_do_not_get_ready_leave_the_old_one_with_its_services(self, serving):
        old = serving.admins[0]
        outcome = serving.reload(plan())
        serving.admins[1].ready.callback(None)
        serving.admins[1].stops_at_once = False
        serving.generations[1].ready.errback(StartupError("worker 1 ended with status 1"))
        assert serving.admins[1].told == ["now"] and old.told[-1] == "stop services" and outcome == []
        serving.admins[1].exits()
        assert old.told == ["open", "stop services", "start services"]
        assert outcome == [ReloadOutcome(False, ("worker 1 ended with status 1",))]

    def test_a_new_one_that_is_not_ready_yet_is_ended_as_well(self, serving):
        old = serving.admins[0]
        outcome = serving.reload(plan())
        serving.generations[1].ready.errback(StartupError("worker 1 ended with status 1"))
        assert serving.admins[1].told == ["now"] and old.told[-1] == "start services"
        assert outcome == [ReloadOutcome(False, ("worker 1 ended with status 1",))]

    def test_services_that_have_not_stopped_yet_are_started_again(self, serving):
        outcome = []
        serving.master.reload().addCallback(outcome.append)
        serving.readings[-1].callback(plan())
        serving.generations[1].ready.errback(StartupError("worker 1 ended with status 1"))
        assert len(serving.admins) == 1 and not outcome[0].reloaded
        assert serving.admins[0].told == ["open", "stop services", "start services"]

    def test_one_that_cannot_start_changes_nothing(self, serving):
        outcome = serving.reload(plan(probe=OTHER_PROBE))
        assert sorted(serving.reactor.bound) == [81, 90, 91]
        serving.generations[1].ready.callback(None)
        serving.admins[1].ready.errback(StartupError("admin process ended with status 1: no such plugin"))
        assert serving.generations[1].told == [WorkerCommand.NOW]
        assert serving.generations[0].told == [WorkerCommand.OPEN]
        assert serving.admins[0].told == ["open", "stop services", "start services"]
        assert outcome == [ReloadOutcome(False, ("admin process ended with status 1: no such plugin",))]
        assert sorted(serving.reactor.bound) == [81, 90]

    def test_one_that_is_not_needed_any_more_ends(self, serving):
        outcome = serving.reload(plan(admin=False))
        serving.generations[1].ready.callback(None)
        serving.generations[0].leaves()
        assert outcome == [ReloadOutcome(True)] and serving.admins[0].told[-1] == "end"
        assert len(serving.admins) == 1 and sorted(serving.reactor.bound) == [81]
        assert serving.generations[1].launch.environment == {}

    def test_one_that_is_needed_from_now_on_starts(self, started):
        scene = started(plan(admin=False))
        scene.generations[0].ready.callback(None)
        outcome = []
        scene.master.reload().addCallback(outcome.append)
        scene.readings[-1].callback(plan())
        scene.serving()
        scene.generations[0].leaves()
        assert outcome == [ReloadOutcome(True)] and scene.admins[0].told == ["open"]
        assert sorted(scene.reactor.bound) == [81, 90]

    def test_requests_during_a_reload_share_the_next_one(self, serving):
        outcomes = {}

        def request(name):
            serving.master.reload().addCallback(lambda outcome: outcomes.__setitem__(name, outcome))

        for name in ("first", "second", "third"):
            request(name)
        assert len(serving.readings) == 1
        serving.readings[0].errback(PlanRefused(["no"]))
        assert outcomes == {"first": ReloadOutcome(False, ("no",))} and len(serving.readings) == 2
        serving.readings[1].errback(PlanRefused(["never"]))
        assert outcomes["second"] == outcomes["third"] == ReloadOutcome(False, ("never",))
        assert len(serving.readings) == 2

    def test_failed_reloads_do_not_count_as_generations(self, serving):
        serving.reload(plan())
        serving.generations[1].ready.errback(StartupError("no"))
        serving.admins[0].stopped = Deferred()
        serving.master.reload()
        serving.readings[-1].callback(plan())
        assert serving.generations[2].launch.generation == 1

    def test_a_plan_of_an_older_version_has_no_admin_process(self, serving):
        older = Plan.read(
            '{"workers": 2, "endpoints": [["one", "tcp:81:interface=127.0.0.1"]], '
            '"state": "/state", "drain": 30}'
        )
        outcome = serving.reload(older)
        serving.generations[1].ready.callback(None)
        serving.generations[0].leaves()
        assert outcome == [ReloadOutcome(True)] and serving.admins[0].told[-1] == "end"


class TestStop:
    def test_it_serves_until_the_last_worker_has_exited(self, serving):
        admin, (workers,) = serving.admins[0], serving.generations
        admin.stops_at_once = False
        stopped = serving.master.stopService()
        workers.stopped_accepting.callback(None)
        assert admin.told == ["open"] and sorted(serving.reactor.bound) == [90]
        workers.exited.callback(None)
        assert admin.told == ["open", "end"] and not stopped.called and sorted(serving.reactor.bound) == [90]
        admin.exits()
        serving.reactor.advance(0)  # the port is closed
        assert stopped.called and serving.reactor.bound == {} and serving.reactor.getDelayedCalls() == []

    def test_a_second_signal_ends_it_at_once(self, serving):
        serving.master.stopService()
        serving.master.abort()
        assert serving.admins[0].told == ["open", "now"]

    def test_requests_get_an_answer(self, serving):
        outcomes = []
        for _ in range(2):
            serving.admins[0].reload().addCallback(outcomes.append)
        serving.master.stopService()
        assert outcomes == [SHUTTING_DOWN, SHUTTING_DOWN]
        serving.master.reload().addCallback(outcomes.append)
        assert outcomes[2:] == [SHUTTING_DOWN]

    def test_one_that_starts_is_ended(self, scene):
        stopped = scene.master.stopService()
        scene.generations[0].leaves()
        scene.reactor.advance(0)
        assert stopped.called and scene.admins[0].exited.called

    def test_workers_that_were_ready_before_it_do_not_open_in_a_shutdown(self, scene):
        scene.generations[0].ready.callback(None)
        scene.master.stopService()
        scene.admins[0].ready.callback(None)
        assert WorkerCommand.OPEN not in scene.generations[0].told and "open" not in scene.admins[0].told

    def test_a_reload_that_waits_for_services_starts_nothing(self, serving):
        serving.master.reload()
        serving.readings[-1].callback(plan())
        stopped = serving.master.stopService()
        for generation in serving.generations:
            generation.leaves()
        serving.admins[0].stopped.callback(None)
        serving.reactor.advance(0)
        assert stopped.called and len(serving.admins) == 1


def test_what_a_crashed_one_held_in_the_state_is_released(serving):
    serving.admins[0].on_crash("dead")
    assert serving.generations[0].buried == ["dead"]
    serving.generations[0].stopped_accepting.callback(None)
    with capturedLogs() as lines:
        serving.admins[0].on_crash("dead")
    assert lines == []


def test_sigusr1_reaches_it(serving):
    serving.master._reopen(signal.SIGUSR1, None)
    assert serving.admins[0].told == ["open", signal.SIGUSR1]
