"""The timers of a process do not depend on changes of the system time."""

import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock, LoopingCall

import esxiproxy
from esxiproxy.core.websocket.control_budget import BURST, ControlBudget
from esxiproxy.net.transport.reactor import with_fast_transports
from esxiproxy.ops.process import clock as clock_module
from esxiproxy.ops.process.clock import make_monotonic
from esxiproxy.ops.process.systemd import SystemdService

PACKAGE = Path(esxiproxy.__file__).parent


class Machine:
    """A fake reactor with a system time and a monotonic clock, both set by the test."""

    def __init__(self, monkeypatch, kind=SelectReactor):
        self.monotonic, self.day = 5_000.0, 1_700_000_000.0
        monkeypatch.setattr(clock_module, "time", SimpleNamespace(monotonic=lambda: self.monotonic))
        self.reactor = kind()
        self.reactor.seconds = lambda: self.day

    def advance(self, seconds):
        self.monotonic += seconds
        self.day += seconds
        self.reactor.runUntilCurrent()


@pytest.fixture(params=[SelectReactor, AsyncioSelectorReactor])
def machine(request, monkeypatch):
    return Machine(monkeypatch, request.param)


@pytest.mark.parametrize("step", [-86400.0, -10.0, 120.0, 86400.0])
def test_a_step_of_the_time_of_day_moves_no_timer(machine, step):
    make_monotonic(machine.reactor)
    fired = []
    machine.reactor.callLater(10, fired.append, "once")
    late = machine.reactor.callLater(10, fired.append, "reset")
    beats = LoopingCall(fired.append, "beat")
    beats.clock = machine.reactor
    beats.start(4, now=False)
    machine.advance(3)
    machine.day += step
    machine.advance(0)
    assert fired == []
    late.reset(10)
    machine.advance(1)
    assert fired == ["beat"]
    machine.advance(4), machine.advance(1.5)
    assert fired == ["beat", "beat"]
    machine.advance(0.5)
    assert fired == ["beat", "beat", "once"]
    machine.advance(3)
    assert sorted(fired) == ["beat", "beat", "beat", "once", "reset"]
    beats.stop()


def test_a_call_that_is_armed_already_keeps_the_time_that_it_has_left(machine):
    fired = []
    machine.reactor.callLater(10, fired.append, "ten")
    delayed = machine.reactor.callLater(5, fired.append, "five and five")
    machine.advance(4)
    make_monotonic(machine.reactor)
    machine.day -= 86400
    delayed.delay(4)
    machine.advance(0)
    machine.advance(4.9)
    assert fired == []
    machine.advance(1.2)
    assert sorted(fired) == ["five and five", "ten"]


def test_streams_of_ours_have_the_same_clock(monkeypatch):
    machine = Machine(monkeypatch)
    make_monotonic(machine.reactor)
    assert with_fast_transports(machine.reactor).seconds() == 5_000.0


@pytest.mark.parametrize("step", [-10.0, 120.0])
def test_the_watchdog_is_notified_at_any_time_of_day(machine, step):
    sent = []

    class Told:
        watchdog = 4.0

        def send(self, **fields):
            sent.extend(fields)
            return True

    make_monotonic(machine.reactor)
    service = SystemdService(machine.reactor, Told())
    service.startService()
    machine.advance(0)
    machine.day += step
    for _ in range(10):
        machine.advance(1)
    assert sent.count("WATCHDOG") == 5
    service.stopService()


@pytest.mark.parametrize("step", [-86400.0, -10.0])
def test_a_ping_after_a_step_is_no_flood(machine, step):
    make_monotonic(machine.reactor)
    budget = ControlBudget(machine.reactor.seconds)
    for _ in range(int(BURST) - 1):
        assert budget.spend()
    machine.day += step
    assert budget.spend() and not budget.spend()


# Who reads the time of day

OF_DAY = re.compile(
    r"\btime\.time\b|\bfrom time import .*\btime\b|\bdatetime\.(datetime\.)?(now|utcnow|today)\b"
)
WRITTEN_DOWN = {
    "admin/live.py": "the age of consoles, and the time of an answer",
    "app/lost_sessions.py": "how long a lost session was there, for its record",
    "app/reporter.py": "until when a report counts, in the shared state",
    "app/session_tally.py": "when a session failed, for a list of failures",
    "app/admin_report.py": "until when a report counts, in the shared state",
    "app/admin_host.py": "since when something is drained, for all processes",
    "app/portal_parts.py": "the expiry of a link",
    "app/control.py": "when the proxy was started, for the admin service",
    "authenticators/client_cert.py": "the validity of certificates and revocation lists",
    "authenticators/htpasswd.py": "when a failed login is forgotten, in the shared state",
    "authenticators/jwt.py": "the expiry of a token",
    "authenticators/login_store.py": "the end of a login, in the shared state",
    "authenticators/oidc.py": "the expiry of a token",
    "authenticators/session.py": "the end of a login, in the shared state",
    "portal/site.py": "the end of the event streams of a login",
    "authenticators/login_throttle.py": "when a failed login is forgotten, in the shared state",
    "admin/access.py": "the end of a login",
    "admin/api/drains.py": "when running consoles of a drain are closed, for all processes",
    "admin/audit.py": "the time of a line in the audit log",
    "cli/drain.py": "how long something has been drained, for a table",
    "cli/doctor_config.py": "the days until certificates expire",
    "core/http/date.py": "the Date of an answer",
    "net/upstream/health_checks.py": "until when a result counts, in the shared state",
    "net/admission/admission.py": "when a mark was taken, for all processes",
    "net/admission/drains.py": "since when a host is drained, and when its consoles end, for all processes",
    "net/logins.py": "the end of a login",
    "routers/issued.py": "the expiry of a ticket",
    "routers/link_orders.py": "the times in a link",
    "routers/links.py": "the expiry of a link",
    "routers/resolver.py": "the expiry of an answer",
    "routers/vsphere.py": "the expiry of a link",
    "net/session_publisher.py": "when a session began, for a list of sessions",
    "ops/logs/access_log.py": "when a session began, for its line",
    "ops/logs/twistd_log.py": "the time of a line in syslog",
    "sim/certificate.py": "a certificate's validity",
    "sim/host.py": "the clock on the simulated screen",
    "sim/vcenter/vcenter.py": "the clock on the simulated screens, and the times of sessions and tasks",
    "state/memory.py": "used links, which expire at a time of day",
    "state/redis.py": "how long a stored value lives, whatever the time of Redis is",
    "state/redis_connection.py": "how far the clock of the server is away",
    "state/times.py": "marks and stored values, which outlast a start of the machine",
    "ops/manhole/admin_commands.py": "how old the sessions of other processes are",
    "ticket_rewriting/filters.py": "until when a ticket leads to its host, in the shared state",
    "workers/master/master.py": "when the proxy was started, for the admin service",
    "workers/worker/crash_recovery.py": "how long a lost session was there, for its record",
}


def test_the_time_of_day_is_read_only_for_records():
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if OF_DAY.search(path.read_text(encoding="utf-8"))
    }
    assert found == set(WRITTEN_DOWN)


def test_an_embedded_proxy_measures_on_the_clock_that_it_is_given():
    reactor, clock = Clock(), Clock()
    proxy = esxiproxy.Proxy(reactor, limits=esxiproxy.SessionLimits(drain_timeout=10), clock=clock)
    factory = proxy.listener("one", esxiproxy.StaticRouter(esxiproxy.Upstream("u", "192.0.2.10", 443, False)))
    assert factory.clock is clock
    proxy.startService()
    proxy.stopService()
    proxy.abort()
    assert reactor.getDelayedCalls() == []
    clock.pump([1] * 20)
    assert clock.getDelayedCalls() == []


def test_an_application_keeps_its_reactor():
    reactor = SelectReactor()
    proxy = esxiproxy.Proxy(reactor)
    assert "seconds" not in vars(reactor) and proxy and abs(reactor.seconds() - time.time()) < 60
