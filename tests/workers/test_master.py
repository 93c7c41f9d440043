"""The decisions of the master, with fake generations, sockets and plans."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from esxiproxy.core.startup import BindError, StartupError
from esxiproxy.workers.master import master as module
from esxiproxy.workers.master.master import DRAIN_GRACE, Master
from esxiproxy.workers.master.plan_reader import PlanRefused
from esxiproxy.workers.master.sockets import Sockets
from esxiproxy.workers.plan import Plan
from esxiproxy.workers.shared.messages import WorkerCommand
from tests.support.reactor import FakeReactor

ONE, TWO = ("one", "tcp:81:interface=127.0.0.1"), ("two", "tcp:82:interface=127.0.0.1")


class FakeGeneration:
    """A fake generation that becomes ready, and exits, when the test calls for it."""

    def __init__(self, plan, launch, sockets, bury, reactor):
        self.plan, self.sockets, self.state, self.bury_elsewhere = plan, sockets, launch.state, bury
        self.launch = launch
        self.stopped_accepting, self.exited, self.ready = Deferred(), Deferred(), Deferred()
        self.told, self.signals, self.buried, self.connections = [], [], [], 3

    def start(self):
        return self.ready

    def open(self):
        self.told.append(WorkerCommand.OPEN)

    def stop(self, word):
        self.told.append(word)
        if not self.ready.called:
            self.ready.errback(StartupError("told to leave"))

    def signal(self, number):
        self.signals.append(number)

    def record_lost(self, holder):
        if not self.stopped_accepting.called:
            self.buried.append(holder)
        return not self.stopped_accepting.called

    def leaves(self):
        for deferred in (self.stopped_accepting, self.exited):
            if not deferred.called:
                deferred.callback(None)


class Scene:
    def __init__(self, tmp_path, plan, kind=FakeGeneration, **makers):
        self.reactor, self.kind, self.generations, self.readings = FakeReactor(has_run=True), kind, [], []
        self.master = Master(tmp_path / "proxy.ini", plan, self.reactor, self.make, **makers)
        self.master.privilegedStartService()
        self.master.startService()

    def make(self, *arguments):
        self.generations.append(self.kind(*arguments))
        return self.generations[-1]

    async def read(self, path, reactor):
        self.readings.append(Deferred())
        return await self.readings[-1]

    def reload(self, plan):
        """Reload up to the start of the new workers, and return their generation."""
        self.master.reload()
        self.readings[-1].callback(plan)
        return self.generations[-1]


def plan(*endpoints, workers=2, state="/state"):
    return Plan(workers, endpoints, state, 30.0)


@pytest.fixture
def scene(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGUSR1)
    scene = Scene(tmp_path, plan(ONE))
    monkeypatch.setattr(module, "read_plan", scene.read)
    yield scene
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def serving(scene):
    scene.generations[0].ready.callback(None)
    return scene


class TestStart:
    def test_the_master_binds_and_does_not_accept(self, scene):
        assert [*scene.reactor.bound] == [81]
        assert [port.reads for port in scene.reactor.bound.values()] == [False]
        assert scene.generations[0].sockets == {"one": 1081}

    def test_workers_accept_when_all_are_ready(self, scene):
        (first,) = scene.generations
        assert first.told == []
        first.ready.callback(None)
        assert first.told == [WorkerCommand.OPEN]

    def test_a_reload_during_another_follows_it(self, scene):
        scene.master.reload()
        assert scene.readings == []
        scene.generations[0].ready.callback(None)
        assert len(scene.readings) == 1

    def test_without_a_state_of_its_own_it_has_one_in_a_private_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        before = signal.getsignal(signal.SIGUSR1)
        scene = Scene(tmp_path, plan(ONE, state=""))
        signal.signal(signal.SIGUSR1, before)
        (folder,) = tmp_path.glob("esxiproxy-*")
        assert scene.generations[0].state == f"{folder}/state.sqlite"
        assert folder.stat().st_mode & 0o777 == 0o700
        scene.master.stopService()
        scene.generations[0].leaves()
        assert not folder.exists()


def warned(events):
    return [formatEvent(event) for event in events if event["log_level"].name == "warn"]


class TestWarnings:
    def test_they_are_logged_once_for_all_workers(self, tmp_path):
        before = signal.getsignal(signal.SIGUSR1)
        with capturedLogs() as told:
            Scene(tmp_path, replace(plan(ONE), warnings=("proxy.ini:4: warning: {x}",)))
        signal.signal(signal.SIGUSR1, before)
        assert warned(told) == ["proxy.ini:4: warning: {x}"]

    def test_those_of_a_reload_are_logged_when_it_is_in_force(self, serving):
        with capturedLogs() as told:
            new = serving.reload(replace(plan(ONE), warnings=("proxy.ini:5: warning: y",)))
            assert warned(told) == []
            new.ready.callback(None)
        assert warned(told) == ["proxy.ini:5: warning: y"]


class TestReload:
    def test_an_error_of_the_system_changes_nothing(self, serving, monkeypatch):
        def none_left(*_):
            raise OSError(24, "Too many open files")

        serving.master._make_generation = none_left
        serving.master.reload()
        serving.readings[0].callback(plan(ONE, TWO))
        assert [*serving.reactor.bound] == [81] and serving.generations[0].told == [WorkerCommand.OPEN]

    def test_the_old_ones_retire_when_the_new_ones_accept(self, serving):
        new = serving.reload(plan(ONE, workers=3))
        old = serving.generations[0]
        assert old.told == [WorkerCommand.OPEN] and new.told == []
        new.ready.callback(None)
        assert new.told == [WorkerCommand.OPEN] and old.told == [WorkerCommand.OPEN, WorkerCommand.RETIRE]
        assert new.sockets == old.sockets and [*serving.reactor.bound] == [81]

    def test_a_file_with_problems_changes_nothing(self, serving):
        serving.master.reload()
        serving.readings[0].errback(PlanRefused(["proxy.ini:3: no such key"]))
        assert len(serving.generations) == 1 and serving.generations[0].told == [WorkerCommand.OPEN]

    def test_workers_that_do_not_get_ready_change_nothing(self, serving):
        new = serving.reload(plan(ONE, TWO))
        assert [*serving.reactor.bound] == [81, 82]
        new.ready.errback(StartupError("worker 1 ended with status 1"))
        assert new.told == [WorkerCommand.NOW] and serving.generations[0].told == [WorkerCommand.OPEN]
        assert [*serving.reactor.bound] == [81]

    def test_an_address_that_cannot_be_bound_changes_nothing(self, serving):
        serving.reactor.taken.add(82)
        serving.reload(plan(("three", "tcp:83:interface=127.0.0.1"), TWO))
        assert len(serving.generations) == 1
        assert [*serving.reactor.bound] == [81]

    def test_a_removed_listener_is_closed_when_no_worker_accepts_there(self, serving):
        new = serving.reload(plan(TWO))
        new.ready.callback(None)
        assert [*serving.reactor.bound] == [81, 82]
        serving.generations[0].stopped_accepting.callback(None)
        assert [*serving.reactor.bound] == [82]

    def test_a_removed_listener_is_closed_after_a_failed_reload(self, serving):
        """A socket is closed only when a generation that failed to start has released it, too."""
        bad = serving.reload(plan(TWO))
        bad.ready.errback(StartupError("worker 1 ended with status 1"))
        serving.reload(plan(TWO)).ready.callback(None)
        serving.generations[0].leaves()
        assert [*serving.reactor.bound] == [81, 82]
        bad.leaves()
        assert [*serving.reactor.bound] == [82]

    def test_a_listener_with_another_name_keeps_its_socket(self, serving):
        new = serving.reload(plan(("other", ONE[1])))
        new.ready.callback(None)
        serving.generations[0].stopped_accepting.callback(None)
        assert new.sockets == {"other": 1081} and [*serving.reactor.bound] == [81]

    def test_a_listener_that_comes_back_before_it_was_closed_keeps_its_socket(self, serving):
        serving.reload(plan(TWO)).ready.callback(None)
        serving.reactor.advance(DRAIN_GRACE)
        serving.reload(plan(ONE)).ready.callback(None)
        serving.reactor.advance(DRAIN_GRACE)
        for generation in serving.generations[:2]:
            generation.stopped_accepting.callback(None)
        assert [*serving.reactor.bound] == [81] and len(serving.reactor.order) == 2

    def test_reloads_come_one_after_the_other_and_not_more_of_them_than_are_needed(self, serving):
        serving.master.reload()
        serving.master.reload()
        serving.master.reload()
        assert len(serving.readings) == 1
        serving.readings[0].errback(PlanRefused(["no"]))
        assert len(serving.readings) == 2
        serving.readings[1].errback(PlanRefused(["no"]))
        assert len(serving.readings) == 2

    def test_crashed_workers_of_an_old_generation_are_recorded_by_the_new_one(self, serving):
        new = serving.reload(plan(ONE))
        new.ready.callback(None)
        serving.generations[0].bury_elsewhere("dead")
        assert new.buried == ["dead"]

    def test_a_worker_that_crashes_in_a_drain_is_recorded_by_another(self, serving):
        serving.reload(plan(ONE)).ready.callback(None)
        old, new = serving.generations
        serving.master.stopService()
        new.leaves()
        old.bury_elsewhere("dead")
        assert old.buried == ["dead"] and new.buried == []
        old.stopped_accepting.callback(None)
        with capturedLogs() as told:
            old.bury_elsewhere("last")
        assert old.buried == ["dead"] and "no other worker is running" in told[0]["log_format"]

    def test_a_state_folder_that_was_removed_is_healed(self, tmp_path, scene, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        scene.generations[0].ready.callback(None)
        first = scene.reload(plan(ONE, state=""))
        first.ready.callback(None)
        scene.generations[0].leaves()
        Path(first.state).parent.rmdir()
        second = scene.reload(plan(ONE, state=""))
        assert second.state != first.state and Path(second.state).parent.is_dir()


class TestStop:
    def test_it_ends_with_the_last_worker(self, serving):
        stopped = serving.master.stopService()
        (first,) = serving.generations
        assert first.told == [WorkerCommand.OPEN, WorkerCommand.DRAIN] and [*serving.reactor.bound] == [81]
        first.stopped_accepting.callback(None)
        assert [*serving.reactor.bound] == [] and not stopped.called
        first.exited.callback(None)
        serving.reactor.advance(0)  # the port is closed
        assert stopped.called and serving.reactor.getDelayedCalls() == []

    def test_old_generations_end_as_well(self, serving):
        serving.reload(plan(ONE)).ready.callback(None)
        stopped = serving.master.stopService()
        assert [generation.told[-1] for generation in serving.generations] == [
            WorkerCommand.DRAIN,
            WorkerCommand.DRAIN,
        ]
        serving.generations[0].leaves()
        assert not stopped.called
        serving.generations[1].leaves()
        assert stopped.called

    def test_a_reload_in_progress_is_given_up_at_the_stop(self, serving):
        new = serving.reload(plan(ONE, TWO))
        stopped = serving.master.stopService()
        assert new.told == [WorkerCommand.DRAIN, WorkerCommand.NOW]
        for generation in serving.generations:
            generation.leaves()
        assert stopped.called and [*serving.reactor.bound] == []

    def test_a_file_that_is_being_read_is_not_waited_for(self, serving):
        serving.master.reload()
        stopped = serving.master.stopService()
        serving.generations[0].leaves()
        assert stopped.called and len(serving.generations) == 1 and [*serving.reactor.bound] == []

    def test_a_worker_that_exceeds_the_drain_is_killed(self, serving):
        serving.master.stopService()
        serving.reactor.advance(30 + DRAIN_GRACE)
        assert serving.generations[0].told[-1] is WorkerCommand.NOW

    def test_asked_again_it_is_at_once(self, serving):
        serving.master.stopService()
        serving.master.abort()
        assert serving.generations[0].told[-1] is WorkerCommand.NOW

    def test_it_may_come_before_the_workers_are_ready(self, scene):
        stopped = scene.master.stopService()
        (first,) = scene.generations
        assert first.told[0] is WorkerCommand.DRAIN
        first.leaves()
        assert stopped.called


def test_sigusr1_goes_to_all_workers(serving):
    serving.master._reopen(signal.SIGUSR1, None)
    assert serving.generations[0].signals == [signal.SIGUSR1]


def test_sockets_that_cannot_all_be_bound_are_all_given_back():
    reactor = FakeReactor()
    reactor.taken.add(82)
    with pytest.raises(BindError, match=r"listener two: .*already in use"):
        Sockets(reactor).bind([ONE, TWO])
    assert not reactor.bound


def test_two_listeners_on_ports_of_the_systems_choice_have_two_sockets():
    reactor, any_port = FakeReactor(), "tcp:0:interface=127.0.0.1"
    sockets = Sockets(reactor)
    bound = sockets.bind([("one", any_port), ("two", any_port)])
    sockets.keep(bound)
    assert bound["one"] is not bound["two"]
    again = sockets.bind([("two", any_port), ("one", any_port)])
    assert again["one"] is bound["one"] and again["two"] is bound["two"]
