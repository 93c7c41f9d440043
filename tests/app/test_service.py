"""The service of a configuration: reload, retirement, stop and abort, in one process with a fake reactor."""

from tests.app.service_world import ONE, World
from tests.net.scene import opening, up
from tests.ops.metrics_world import total

# Metrics


def test_the_metrics_are_those_of_the_sessions_that_ran(tmp_path):
    world = World(tmp_path, "[admin]\n" + ONE + "http = forward\nmax_sessions = 2\n")
    metering = world.service.metering

    def counted(name, label="upstream"):
        return total(metering.metrics, name, label)

    first, second = world.console(), world.console()
    assert world.carries(*first)
    refused = world.connect()
    refused.send(opening())
    world.pump()
    assert refused.received.startswith(b"HTTP/1.1 503 ")
    assert counted("sessions_open") == counted("sessions_opened_total") == {"esxi1": 2}
    assert counted("refusals_total", "limit") == {"max_sessions": 1}
    assert counted("handshakes_failed_total", "reason") == {"LimitReached": 1}
    assert counted("bytes_total") == {}
    metering.watch(True)
    relayed = len(up(2, b"still here"))
    assert counted("bytes_total", "direction") == {"up": relayed}
    assert world.carries(*second)
    world.advance(1)
    assert counted("bytes_total", "direction") == {"up": 2 * relayed}
    world.leaves(*first)
    world.advance(1)
    assert counted("sessions_open") == {"esxi1": 1}
    assert counted("sessions_closed_total", "reason") == {"normal": 1}
    world.dials = len(world.reactor.tcpClients)
    world.page(world.connect())
    assert counted("http_requests_total", "code") == {"2xx": 1}
    assert world.reload("[admin]\n" + ONE + "http = forward\n") is None
    world.leaves(*second)
    assert counted("sessions_open") == {} and counted("sessions_opened_total") == {"esxi1": 2}
    assert counted("sessions_closed_total", "reason") == {"normal": 2}
    assert total(metering.metrics, "event_loop_lag_seconds_count") > 10
    world.service.stopService()
    world.advance(10)
    assert not metering.is_counting


def test_without_metrics_nothing_is_counted(world):
    assert not world.service.metering.has_begun


def test_consoles_that_are_open_when_counting_begins_are_counted(tmp_path):
    world = World(tmp_path, ONE)
    before = [world.console(), world.console()]
    assert world.carries(*before[0])
    waiting = world.connect()
    waiting.send(opening())
    world.pump()  # its host has not answered yet
    for _ in range(2):  # the second reload counts nothing again
        assert world.reload("[admin]\n" + ONE) is None
    metering = world.service.metering
    metering.watch(True)

    def counted(name, label="upstream"):
        return total(metering.metrics, name, label)

    assert counted("sessions_open") == counted("sessions_opened_total") == {"esxi1": 2}
    assert counted("bytes_total") == {}, "bytes are counted from now on"
    later = world.console()
    assert counted("sessions_open") == counted("sessions_opened_total") == {"esxi1": 3}
    assert world.carries(*before[0])
    world.advance(1)
    assert counted("bytes_total", "direction") == {"up": len(up(2, b"still here"))}
    for console in (*before, later):
        world.leaves(*console)
    world.advance(1)
    assert counted("sessions_open") == {}
    assert counted("sessions_opened_total") == {"esxi1": 3}
    assert counted("sessions_closed_total", "reason") == {"normal": 3}
