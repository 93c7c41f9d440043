"""Without readers, neither the admin service nor a report costs more with more sessions."""

from collections import Counter

import pytest
from twisted.internet.defer import Deferred, maybeDeferred

from esxiproxy.app.admin_metrics import AdminMetrics
from esxiproxy.core.session.reports import ADMIN_SPACE, SCRAPED, SCRAPED_LIFE, WATCHED_LIFE
from tests.admin.scene import Admin, FakeTraffic, Worker
from tests.state.world import MemoryWorld, SqliteWorld
from tests.support.outcome import result

MINUTE = 60


class MeasuredState:
    """A state that counts its calls, and the rows that it returns."""

    def __init__(self, state):
        self._state = state
        self.calls, self.rows = Counter(), Counter()

    def __getattr__(self, name):
        call = getattr(self._state, name)
        if not callable(call):
            return call

        def measured(*arguments, **more):
            self.calls[name] += 1
            return maybeDeferred(call, *arguments, **more).addCallback(self._count, name)

        return measured

    def _count(self, found, name):
        if isinstance(found, (list, tuple, dict)):
            self.rows[name] += len(found)
        return found

    def taken(self):
        """Return what was counted since the call before."""
        found = dict(self.calls), +self.rows
        self.calls, self.rows = Counter(), Counter()
        return found


class Scene:
    """Two workers with sessions and failures, and the admin service of their machine."""

    def __init__(self, world, sessions):
        self.world = world
        self.admin = Admin(world)
        self.workers = [Worker(world, worker=str(number)) for number in range(2)]
        for number in range(sessions):
            self.workers[number % 2].open()
        world.advance(10)
        self.states = []
        for part in (self.admin.control, *(worker.proxy for worker in self.workers)):
            part.state = state = MeasuredState(part.state)
            self.states.append(state)

    def a_minute(self):
        """Return the calls of the states, their rows, and the reads of sessions in a minute."""
        for state in self.states:
            state.taken()
        FakeTraffic.reads = 0
        self.world.advance(MINUTE)
        return [*(state.taken() for state in self.states), FakeTraffic.reads]


@pytest.fixture(params=[MemoryWorld, SqliteWorld], ids=["memory", "sqlite"])
def worlds(request, tmp_path):
    found = []

    def make():
        folder = tmp_path / str(len(found))
        folder.mkdir()
        found.append(request.param(folder))
        return found[-1]

    return make


def test_a_minute_with_many_sessions_is_as_cheap_as_one_without(worlds):
    empty, full = Scene(worlds(), 0).a_minute(), Scene(worlds(), 1000).a_minute()
    assert full == empty
    (calls, rows), reads = full[0], full[-1]
    assert calls == {"items": 24, "reports": 12} and set(rows) == {"items", "reports"}
    assert reads == 0 and all("report" in calls for calls, _rows in full[1:-1])


def test_after_the_last_reader_the_cost_is_low_again(worlds):
    scene = Scene(worlds(), 1000)
    before = scene.a_minute()
    assert len(scene.admin.rows(limit=500)) == 500
    scene.admin.call("list_hosts")
    looking = scene.a_minute()
    assert looking != before and looking[-1] >= 1000, "the mark lives for 15 s more"
    scene.world.advance(WATCHED_LIFE)
    assert scene.a_minute() == before


def test_after_a_scrape_the_running_consoles_are_counted_no_more(worlds):
    """The mark of a reader of metrics expires."""
    world = worlds()
    scene = Scene(world, 10)
    watched = []
    for worker in scene.workers:
        worker.reporter._watch_metrics = watched.append
    world.advance(5)
    assert watched == [False, False]

    async def expose(accept, families):
        return "text/plain", b""

    metrics = AdminMetrics(scene.admin.live, expose)
    result(Deferred.fromCoroutine(metrics.metrics("")))
    assert [key for key, _ in result(scene.admin.state.items(ADMIN_SPACE, "", 10)) if key == SCRAPED]
    world.advance(5)
    assert watched[2:] == [True, True]
    world.advance(SCRAPED_LIFE + 5)
    assert watched[-2:] == [False, False]
