"""The metrics that are computed for each scrape: the drains and the workers of this proxy."""

from twisted.internet.defer import Deferred, succeed

from esxiproxy.app.admin_metrics import AdminMetrics
from esxiproxy.core.session.drain import Drain, DrainKind, drain_key
from esxiproxy.ops.metrics.metrics import Metrics
from tests.admin.scene import Admin, Worker
from tests.ops.metrics_world import samples
from tests.state.world import MemoryWorld
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
