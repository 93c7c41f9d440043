"""The metrics that are computed for each scrape: the drains and the workers of this proxy."""

from twisted.internet.defer import Deferred, fail, succeed

from esxiproxy.admin.probes import ProbeAnswers
from esxiproxy.app.admin_metrics import AdminMetrics
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.drain import Drain, DrainKind, drain_key
from esxiproxy.core.session.reports import ADMIN_SPACE, SCRAPED
from esxiproxy.ops.metrics.metrics import Metrics
from tests.admin.scene import Admin, Worker
from tests.ops.metrics_world import samples
from tests.state.world import MemoryWorld
from tests.support.logs import process_log
from tests.support.outcome import result


def computed(admin):
    """Return the values of a scrape, each of which must be there once."""
    given = []

    def expose(_accept, families):
        given.extend(families)
        return succeed(("text/plain", b""))

    result(Deferred.fromCoroutine(AdminMetrics(admin.live, expose).metrics("")))
    return samples(Metrics(), given)


def put(world, drain):
    result(world.new().put("drains", drain_key(drain), drain.value, float("inf")))


def draining(admin):
    return {name for name in computed(admin) if name.startswith("draining")}


def test_only_the_drains_of_this_run_are_shown(tmp_path):
    world = MemoryWorld(tmp_path)
    admin = Admin(world, "left", "run-1")
    for machine, run in (("left", "run-1"), ("left", "run-0"), ("right", "run-2"), ("old-name", "run-1")):
        put(world, Drain(DrainKind.PROXY, "", machine, run))
    put(world, Drain(DrainKind.LISTENER, "theirs", "right", "run-2"))
    put(world, Drain(DrainKind.HOST, "esxi1"))
    assert draining(admin) == {"draining{kind=proxy,name=}", "draining{kind=host,name=esxi1}"}


def test_names_with_the_same_beginning_are_one_value(tmp_path):
    world = MemoryWorld(tmp_path)
    for last in "ab":
        put(world, Drain(DrainKind.UPSTREAM, "x" * 200 + last))
    assert len(draining(Admin(world))) == 1


def test_the_workers_of_another_run_do_not_count(tmp_path):
    world = MemoryWorld(tmp_path)
    Worker(world, "left", "0", "run-1"), Worker(world, "left", "0", "run-2")
    Worker(world, "old-name", "1", "run-1")
    world.advance(6)
    assert computed(Admin(world, "left", "run-1"))["workers{state=running}"] == 2


def test_without_the_state_the_counted_metrics_are_there_and_the_log_has_one_line(tmp_path):
    """The mark by which processes count running consoles is made as soon as the state is back."""
    world = MemoryWorld(tmp_path)
    admin, answers = Admin(world), []

    def expose(_accept, families):
        answers.append(len(families))
        return succeed(("text/plain", b"counted"))

    metrics = AdminMetrics(admin.live, expose)

    def scrape():
        world.leap(0.01)  # the pause after the scrape before
        return result(Deferred.fromCoroutine(metrics.metrics("")))

    put = admin.state.put
    admin.state.put = lambda *_arguments: fail(StateUnavailable("away"))
    with process_log() as lines:
        assert [scrape() for _ in range(3)] == [("text/plain", b"counted")] * 3
    assert answers == [0] * 3 and len([line for line in lines if "counted metrics only: " in line]) == 1
    admin.state.put = put
    scrape()
    assert answers[-1] > 0 and result(admin.state.get(ADMIN_SPACE, SCRAPED)) is not None
    admin.state.put = lambda *_arguments: fail(StateUnavailable("away"))
    world.advance(10)
    with process_log() as lines:
        scrape()
    assert len([line for line in lines if "counted metrics only: " in line]) == 1, "it is a new outage"


def test_scrapes_at_the_same_time_share_their_work(tmp_path):
    """The address of probes needs no login: a flood of scrapes stopped the event loop for seconds."""
    world = MemoryWorld(tmp_path)
    admin, exposed = Admin(world), []

    def expose(accept, _families):
        exposed.append((accept, Deferred()))
        return exposed[-1][1]

    metrics = AdminMetrics(admin.live, expose)
    accepts = ["", "text/plain", "*/*", "application/openmetrics-text; version=1.0.0"] * 25
    scrapes = [Deferred.fromCoroutine(metrics.metrics(accept)) for accept in accepts]
    while not all(scrape.called for scrape in scrapes):
        accept, running = exposed[-1]
        running.callback((accept, b""))
        world.leap(0.01)
    assert len(exposed) == 3, "the first one, and then one for each format"
    assert {result(scrape)[0].partition(";")[0] for scrape in scrapes} == {
        "text/plain",
        "application/openmetrics-text",
    }


def test_a_failure_is_logged_once_for_all_scrapes_that_wait(tmp_path):
    """Clients without a login could fill the log with tracebacks, up to a hundred for each collection."""
    world, running = MemoryWorld(tmp_path), Deferred()
    live, collections = Admin(world).live, [running, fail(OSError("no disk"))]
    metrics = AdminMetrics(live, lambda accept, _families: collections.pop(0))
    probes = ProbeAnswers(live.control, metrics.metrics, live.clock)
    first = Deferred.fromCoroutine(probes.answer(b"/metrics", ""))
    scrapes = [Deferred.fromCoroutine(probes.answer(b"/metrics", "")) for _ in range(50)]
    with process_log() as lines:
        running.errback(OSError("no disk"))
        while not scrapes[-1].called:
            world.leap(0.01)
    assert [result(scrape)[0] for scrape in (first, *scrapes)] == [500] * 51
    assert len([line for line in lines if "could not be collected" in line]) == 2, "two collections"
