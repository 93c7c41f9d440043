"""The watchdog of the master, which ends workers without heartbeats."""

from esxiproxy.workers.master.watchdog import HEARTBEAT_TIMEOUT, Watchdog, WorkerHealth


def test_a_silent_worker_is_logged_once_and_then_killed():
    watch, found = Watchdog(), []
    for look in range(HEARTBEAT_TIMEOUT + 3):
        found.append(watch.check({0: 5.0, 1: float(look + 1)}))
    assert found[1] == {0: WorkerHealth.SILENT}
    assert found[HEARTBEAT_TIMEOUT] == {0: WorkerHealth.LOST}
    assert [health for health in found if health] == [found[1], found[HEARTBEAT_TIMEOUT]]


def test_a_worker_that_recovers_is_logged():
    watch = Watchdog()
    assert [watch.check({0: sign}) for sign in (1.0, 1.0, 1.0, 2.0, 3.0)] == [
        {},
        {0: WorkerHealth.SILENT},
        {},
        {0: WorkerHealth.BACK},
        {},
    ]


def test_a_successor_is_not_silent_at_once():
    watch = Watchdog()
    assert watch.check({0: 1.0}) == {} and watch.check({0: 1.0}) == {0: WorkerHealth.SILENT}
    assert watch.check({}) == {}
    assert watch.check({0: 1.0}) == {}
