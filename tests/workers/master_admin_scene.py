"""A master whose workers and whose admin process are fakes."""

from twisted.internet.defer import Deferred

from esxiproxy.core.config.model import ADMIN_PROBE
from esxiproxy.core.reload_outcome import ReloadOutcome
from esxiproxy.core.startup import StartupError
from esxiproxy.workers.plan import Plan
from esxiproxy.workers.shared.admin_messages import WorkerFacts
from tests.workers.test_master import ONE, FakeGeneration, Scene

PROBE = (ADMIN_PROBE, "tcp:90:interface=127.0.0.1")
OTHER_PROBE = (ADMIN_PROBE, "tcp:91:interface=127.0.0.1")
SHUTTING_DOWN = ReloadOutcome(False, ("the proxy is shutting down",))


def plan(*endpoints, probe=PROBE, admin=True):
    return Plan(
        2,
        endpoints or (ONE,),
        "/state",
        30.0,
        machine="here",
        needs_admin=admin,
        admin_endpoints=(probe,) if admin and probe else (),
    )


class FakeWorkers(FakeGeneration):
    """A fake generation with the facts about its workers."""

    def facts(self):
        yield WorkerFacts(self.launch.generation, 0, 4711, "holder", 0.1, 3, True)


class FakeAdmin:
    """A fake admin process of one configuration, which does what the test says."""

    def __init__(self, plan, launch, sockets, facts, reload, on_crash, reactor):
        self.plan, self.launch, self.sockets = plan, launch, sockets
        self.facts, self.reload, self.on_crash = facts, reload, on_crash
        self.ready, self.exited, self.stopped = Deferred(), Deferred(), Deferred()
        self.told, self.known = [], []
        self.stops_at_once = True

    def start(self):
        return self.ready

    def open(self):
        self.told.append("open")

    def end(self):
        self._ends("end")

    def end_now(self):
        self._ends("now")

    def _ends(self, how):
        self.told.append(how)
        if not self.ready.called:
            self.ready.errback(StartupError("told to leave"))
        if self.stops_at_once:
            self.exits()

    def exits(self):
        if not self.exited.called:
            self.exited.callback(None)

    def stop_services(self):
        self.told.append("stop services")
        return self.stopped

    def start_services(self):
        self.told.append("start services")

    def signal(self, number):
        self.told.append(number)

    def send_facts(self):
        self.known.append(self.facts())


class AdminScene(Scene):
    def __init__(self, tmp_path, first):
        self.admins = []
        super().__init__(tmp_path, first, FakeWorkers, make_admin=self.make_admin)

    def make_admin(self, *arguments):
        self.admins.append(FakeAdmin(*arguments))
        return self.admins[-1]

    def serving(self):
        self.generations[-1].ready.callback(None)
        if not self.admins[-1].ready.called:
            self.admins[-1].ready.callback(None)
        return self

    def reload(self, new):
        """Reload up to the start of the new processes, and return the list of the outcome."""
        outcome = []
        self.master.reload().addCallback(outcome.append)
        self.readings[-1].callback(new)
        self.admins[-1].stopped.callback(None)
        return outcome
