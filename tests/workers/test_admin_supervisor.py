"""Two admin processes in a reload, with fake processes: the plugins of ``services`` run in one of them."""

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from esxiproxy.core.startup import StartupError
from esxiproxy.workers.master.admin_generation import AdminGeneration
from esxiproxy.workers.master.admin_supervisor import AdminSupervisor
from esxiproxy.workers.master.generation import ABORT_TIMEOUT, START_TIMEOUT
from esxiproxy.workers.shared.admin_messages import AdminCommand
from tests.workers.test_admin_generation import FACTS, LAUNCH, PLAN, FakeProcess


class Scene:
    def __init__(self):
        self.clock, self.processes = Clock(), []
        self.supervisor = AdminSupervisor(
            lambda: FACTS, lambda: succeed(None), lambda dead: None, self.clock, self.generation
        )

    def generation(self, *arguments):
        return AdminGeneration(*arguments, make_process=self.process)

    def process(self, *arguments):
        self.processes.append(FakeProcess(*arguments))
        return self.processes[-1]

    def start(self):
        """Begin to start the process of a plan; return the Deferred and what it fired with."""
        outcome = []
        starting = Deferred.fromCoroutine(self.supervisor.start(PLAN, LAUNCH, {}))
        starting.addBoth(outcome.append)
        return starting, outcome


@pytest.fixture
def scene():
    scene = Scene()
    scene.start()
    scene.processes[0].gets_ready()
    return scene


@pytest.fixture
def old(scene):
    """Return the process that is in use."""
    scene.supervisor.use(scene.supervisor._generations[0])
    yield scene.processes[0]
    scene.supervisor.abort()
    for process in scene.processes:
        if not process.exit_reason:
            process.ends("killed by SIGKILL")


def services(process):
    """Return the commands about services that a process got."""
    return [each for each in process.commands() if "services" in each.value]


STOPPED = [AdminCommand.STOP_SERVICES]
RUNNING = [AdminCommand.STOP_SERVICES, AdminCommand.START_SERVICES]


def test_a_process_in_its_back_off_does_not_start_beside_the_new_one(scene, old):
    old.ends("killed by SIGKILL")
    scene.clock.advance(0)
    scene.processes[1].ends("killed by SIGKILL")
    _, outcome = scene.start()
    scene.clock.advance(START_TIMEOUT - 1)
    assert len(scene.processes) == 3
    scene.processes[2].gets_ready()
    scene.supervisor.use(outcome[0])
    scene.supervisor.end_others()
    scene.clock.advance(60)
    assert len(scene.processes) == 3


def test_a_process_that_starts_has_exited_before_the_new_one_starts(scene, old):
    old.ends("killed by SIGKILL")
    scene.clock.advance(0)
    scene.start()
    assert len(scene.processes) == 2 and scene.processes[1].commands() == [AdminCommand.NOW]
    scene.processes[1].ends()
    scene.clock.advance(0)
    assert len(scene.processes) == 3


def test_services_start_again_when_a_process_that_is_late_has_exited(scene, old):
    _, outcome = scene.start()
    old.on_report("services stopped")
    scene.clock.advance(START_TIMEOUT)
    assert outcome == [] and services(old) == STOPPED
    scene.processes[1].ends()
    assert services(old) == RUNNING and outcome[0].check(StartupError)


@pytest.mark.parametrize("cancellations", [1, 2])
def test_a_cancellation_does_not_leave_services_stopped(scene, old, cancellations):
    """The workers are late in the same turn as the admin process, which is being ended."""
    starting, outcome = scene.start()
    old.on_report("services stopped")
    scene.clock.advance(START_TIMEOUT)
    for _ in range(cancellations):
        starting.cancel()
    assert services(old) == STOPPED, "the new process has not exited"
    scene.clock.advance(ABORT_TIMEOUT)
    scene.processes[1].ends("killed by SIGKILL")
    assert services(old) == RUNNING and outcome[0].check(StartupError)


def test_a_cancelled_start_of_a_process_leaves_no_services_stopped(scene, old):
    starting, outcome = scene.start()
    old.on_report("services stopped")
    starting.cancel()
    assert services(old) == STOPPED and scene.processes[1].commands() == [AdminCommand.NOW]
    scene.processes[1].ends()
    assert services(old) == RUNNING and len(outcome) == 1
