"""The admin process of one configuration, with a fake process and a fake clock."""

import signal

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from esxiproxy.core.config.model import ADMIN_SOCKET
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.reload_outcome import ReloadOutcome
from esxiproxy.core.startup import StartupError
from esxiproxy.workers.master.admin_generation import (
    END_TIMEOUT,
    SERVICES_TIMEOUT,
    AdminGeneration,
)
from esxiproxy.workers.master.admin_process import AdminProcess
from esxiproxy.workers.master.backoff import STABLE_AFTER
from esxiproxy.workers.master.generation import ABORT_TIMEOUT, START_TIMEOUT
from esxiproxy.workers.plan import Plan
from esxiproxy.workers.shared.admin_messages import AdminCommand, Facts, WorkerFacts
from esxiproxy.workers.shared.messages import Launch

SOCKET = (ADMIN_SOCKET, "unix:/run/admin.sock:mode=600")
PLAN = Plan(
    2, (("one", "tcp:0"),), "", 30.0, "[admin]", machine="here", needs_admin=True, admin_endpoints=(SOCKET,)
)
LAUNCH = Launch("/proxy.ini", "/state", "run 1", 1.0, 3, {"FOLDER": "/metrics"})
FACTS = Facts((WorkerFacts(0, 1, 4711, "holder", 0.2, 5, True),))


class FakeProcess(AdminProcess):
    """An admin process without a process: the test sends its reports and ends it."""

    fails = False

    def __init__(self, config, events, reactor, environment):
        super().__init__(config, events, reactor, environment)
        self.config, self.environment = config, environment
        self.told, self.signals, self.inherited = [], [], None

    def start(self, inherited):
        if self.fails:
            raise OSError(24, "Too many open files")
        self.inherited = inherited

    def send_command(self, command, *arguments):
        self.told.append((command, *arguments))

    def signal(self, number):
        self.signals.append(number)

    def gets_ready(self):
        self.on_report("ready", f"holder {id(self)}")

    def ends(self, why=""):
        self.exit_reason = why
        self.on_end()

    def commands(self):
        return [command for command, *_ in self.told]


class Scene:
    def __init__(self):
        self.clock, self.processes, self.crashed, self.reloads = Clock(), [], [], []
        self.clock.advance(100)
        self.fails = 0
        self.generation = AdminGeneration(
            PLAN,
            LAUNCH,
            {ADMIN_SOCKET: 9},
            lambda: FACTS,
            self.reload,
            self.crashed.append,
            self.clock,
            self.make,
        )
        self.outcome = []
        self.generation.start().addBoth(self.outcome.append)

    def make(self, *arguments):
        process = FakeProcess(*arguments)
        process.fails = self.fails > 0
        self.fails -= 1
        self.processes.append(process)
        return process

    def reload(self):
        self.reloads.append(Deferred())
        return self.reloads[-1]

    @property
    def last(self):
        return self.processes[-1]


@pytest.fixture
def scene():
    scene = Scene()
    yield scene
    scene.generation.end_now()
    if not scene.generation.exited.called:
        scene.last.ends()
    assert scene.generation.exited.called


@pytest.fixture
def serving(scene):
    scene.last.gets_ready()
    scene.generation.open()
    return scene


def test_it_gets_its_sockets_and_the_identity_of_the_run(scene):
    config = scene.last.config
    assert config.sockets == {ADMIN_SOCKET: 5} and scene.last.inherited == {5: 9}
    assert config.endpoints == (SOCKET,) and (config.content, config.state) == ("[admin]", "/state")
    assert config.identity == ProcessIdentity("here", "run 1", "admin", 3) and config.started == 1.0
    assert scene.last.environment == {"FOLDER": "/metrics"}


def test_it_serves_after_its_command_and_knows_the_workers_then(scene):
    scene.last.gets_ready()
    assert scene.outcome == [None] and scene.last.told == []
    scene.generation.open()
    assert scene.last.told == [(AdminCommand.FACTS, FACTS.content()), (AdminCommand.OPEN,)]


def test_one_that_ends_before_it_is_ready_ends_the_start(scene):
    scene.last.ends("ended with status 1: no such file")
    assert str(scene.outcome[0].value) == "admin process ended with status 1: no such file"
    assert len(scene.processes) == 1


def test_one_that_is_late_ends_the_start(scene):
    scene.clock.advance(START_TIMEOUT)
    assert scene.outcome[0].check(StartupError)


def test_one_that_crashes_is_there_again_at_once_and_serves(serving):
    serving.last.ends("killed by SIGKILL")
    serving.clock.advance(0)
    assert len(serving.processes) == 2 and serving.crashed == [serving.processes[0].instance_id]
    assert serving.last.config == serving.processes[0].config
    serving.last.gets_ready()
    assert serving.last.commands() == [AdminCommand.FACTS, AdminCommand.OPEN]


def test_one_that_crashes_again_and_again_waits_longer_each_time(serving):
    serving.last.ends("killed by SIGKILL")
    serving.clock.advance(0)
    for delay in (0.1, 0.2, 0.4, 0.8):
        count = len(serving.processes)
        serving.last.ends("killed by SIGSEGV")
        serving.clock.advance(delay * 0.9)
        assert len(serving.processes) == count
        serving.clock.advance(delay * 0.2)
        assert len(serving.processes) == count + 1
    serving.clock.advance(STABLE_AFTER)
    serving.last.ends("killed by SIGSEGV")
    serving.clock.advance(0)
    assert len(serving.processes) == 7


def test_one_that_cannot_be_started_is_tried_again(serving):
    serving.fails = 1
    serving.last.ends("killed by SIGKILL")
    serving.clock.advance(0)
    assert len(serving.processes) == 2 and serving.last.inherited is None
    serving.clock.advance(0.1)
    assert len(serving.processes) == 3 and serving.last.inherited == {5: 9}


def test_a_successor_that_is_late_is_killed(serving):
    serving.last.ends("killed by SIGKILL")
    serving.clock.advance(0)
    serving.clock.advance(START_TIMEOUT)
    assert serving.last.signals == [signal.SIGKILL]


def test_one_that_hangs_for_a_minute_is_killed(serving):
    with capturedLogs() as lines:
        serving.clock.pump([5.0] * 12)
        assert serving.last.signals == []
        serving.clock.pump([5.0] * 2)
    assert serving.last.signals == [signal.SIGKILL]
    assert "admin process sends no heartbeat" in [formatEvent(line) for line in lines]


def test_one_that_answers_the_facts_is_alive(serving):
    for _ in range(60):
        serving.clock.advance(5.0)
        serving.last.on_report("alive")
        serving.generation.send_facts()
    assert serving.last.signals == []


def test_one_that_does_not_answer_is_sent_no_more_facts(serving):
    for _ in range(5):
        serving.generation.send_facts()
    assert serving.last.commands().count(AdminCommand.FACTS) == 1
    serving.last.on_report("alive")
    serving.generation.send_facts()
    assert serving.last.commands().count(AdminCommand.FACTS) == 2


def test_a_reload_is_answered_with_its_outcome(serving):
    serving.last.on_report("reload", 7)
    assert AdminCommand.RELOADED not in serving.last.commands()
    serving.reloads[0].callback(ReloadOutcome(False, ("line 3: no such key",)))
    assert serving.last.told[-1] == (AdminCommand.RELOADED, 7, False, ("line 3: no such key",))


def test_it_ends_when_it_has_the_outcomes_of_its_reloads(serving):
    serving.last.on_report("reload", 1)
    serving.last.on_report("reload", 2)
    serving.generation.end()
    serving.reloads[0].callback(ReloadOutcome(True))
    assert AdminCommand.END not in serving.last.commands()
    serving.reloads[1].callback(ReloadOutcome(True))
    assert serving.last.commands()[-2:] == [AdminCommand.RELOADED, AdminCommand.END]
    serving.last.ends()
    assert serving.generation.exited.called


def test_one_that_does_not_end_is_killed(serving):
    serving.generation.end()
    assert serving.last.commands()[-1] is AdminCommand.END
    serving.clock.advance(END_TIMEOUT + ABORT_TIMEOUT - 0.1)
    assert serving.last.signals == []
    serving.clock.advance(0.2)
    assert serving.last.signals == [signal.SIGKILL]


def test_one_that_ends_is_not_replaced(serving):
    serving.generation.end()
    serving.last.ends("killed by SIGKILL")
    serving.clock.advance(60)
    assert len(serving.processes) == 1 and serving.generation.exited.called


def test_a_successor_that_waits_is_not_started_when_it_ends(serving):
    serving.last.ends("killed by SIGKILL")
    serving.generation.end()
    assert serving.generation.exited.called
    serving.clock.advance(60)
    assert len(serving.processes) == 1


def test_services_are_stopped_and_started_again(serving):
    stopped = serving.generation.stop_services()
    assert serving.last.commands()[-1] is AdminCommand.STOP_SERVICES and not stopped.called
    serving.last.on_report("services stopped")
    assert stopped.called
    serving.generation.start_services()
    assert serving.last.commands()[-1] is AdminCommand.START_SERVICES


@pytest.mark.parametrize("crashes", [False, True])
def test_services_that_do_not_stop_are_not_waited_for(serving, crashes):
    stopped = serving.generation.stop_services()
    if crashes:
        serving.last.ends("killed by SIGKILL")
    else:
        serving.clock.advance(SERVICES_TIMEOUT)
    assert stopped.called


def test_one_that_exits_before_it_opens_is_replaced(scene):
    scene.last.gets_ready()
    scene.last.ends("killed by SIGKILL")
    scene.generation.open()
    scene.clock.advance(0)
    assert len(scene.processes) == 2
    scene.last.gets_ready()
    assert scene.last.commands() == [AdminCommand.FACTS, AdminCommand.OPEN]


# Services of another process run meanwhile


def crashes_until_it_waits(serving):
    """Let the process crash until the next one is started after a delay, which is returned."""
    serving.last.ends("killed by SIGKILL")
    serving.clock.advance(0)
    serving.last.ends("killed by SIGKILL")
    return 0.1


def test_no_process_starts_from_the_back_off_while_services_are_stopped(serving):
    crashes_until_it_waits(serving)
    assert serving.generation.stop_services().called
    serving.clock.advance(60)
    assert len(serving.processes) == 2
    serving.generation.start_services()
    serving.clock.advance(0)
    assert len(serving.processes) == 3


def test_a_back_off_is_kept_when_services_may_start_again(serving):
    delay = crashes_until_it_waits(serving)
    serving.generation.stop_services()
    serving.generation.start_services()
    serving.clock.advance(delay * 0.9)
    assert len(serving.processes) == 2
    serving.clock.advance(delay * 0.2)
    assert len(serving.processes) == 3


def test_one_that_crashes_while_services_are_stopped_is_replaced_afterwards(serving):
    serving.generation.stop_services()
    serving.last.on_report("services stopped")
    with capturedLogs() as lines:
        serving.last.ends("killed by SIGKILL")
    serving.clock.advance(60)
    assert len(serving.processes) == 1
    assert "admin process is not started again before the reload has ended" in map(formatEvent, lines)
    serving.generation.start_services()
    serving.clock.advance(0)
    assert len(serving.processes) == 2


def test_one_that_crashed_while_services_were_stopped_stays_away_at_the_end(serving):
    serving.generation.stop_services()
    serving.last.ends("killed by SIGKILL")
    serving.generation.end()
    serving.clock.advance(60)
    assert len(serving.processes) == 1 and serving.generation.exited.called


def test_one_that_is_not_ready_has_exited_when_its_services_have_stopped(serving):
    serving.last.ends("killed by SIGKILL")
    serving.clock.advance(0)
    stopped = serving.generation.stop_services()
    serving.clock.advance(SERVICES_TIMEOUT)
    assert serving.last.commands() == [AdminCommand.NOW] and not stopped.called
    serving.clock.advance(ABORT_TIMEOUT)
    assert serving.last.signals == [signal.SIGKILL] and not stopped.called
    serving.last.ends("killed by SIGKILL")
    serving.clock.advance(60)
    assert stopped.called and len(serving.processes) == 2
    serving.generation.start_services()
    serving.clock.advance(0)
    assert len(serving.processes) == 3
