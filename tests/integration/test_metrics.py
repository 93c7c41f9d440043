"""The metrics of running proxies equal what a load did, exactly, also after SIGKILL and after reloads."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support import config
from tests.support.admin_people import FREE, port_of
from tests.support.crowd import TARGET, Crew, EchoUpstream, held, opened
from tests.support.processes import Reloaded
from tests.support.programs import dead_port, environment, need, until
from tests.support.scrape import shown, total
from tests.support.websocket import BINARY, CLOSE, PING, frame
from tests.support.websocket_peers import Client
from tests.support.workers import gone, reloaded

AT_ONCE = 50
"""Clients that are served at the same time."""
ROOM = 10
"""Consoles that the listener ``small`` admits."""
WIDTHS = (1, 125, 126, 4000, 70_000)
"""Bytes of payloads, whose frames have headers of every length."""
COUNTED = (
    "esxiproxy_sessions_open",
    "esxiproxy_sessions_opened_total",
    "esxiproxy_sessions_closed_total",
    "esxiproxy_handshakes_failed_total",
    "esxiproxy_bytes_total",
    "esxiproxy_refusals_total",
    "esxiproxy_http_requests_total",
)

Sample = tuple[str, ...]
"""The name of a metric without its prefix, and the values of its labels in the order of their names."""


class Expected(Counter[Sample]):
    """The samples that a load makes; each of its clients adds to them what it has done."""

    def console(self, listener: str = "one") -> None:
        self["sessions_opened_total", listener, "esxi1"] += 1
        self["sessions_open", "esxi1", listener, "esxi1"] += 1

    def relayed(self, up: int, down: int, listener: str = "one") -> None:
        self["bytes_total", "up", listener, "esxi1"] += up
        self["bytes_total", "down", listener, "esxi1"] += down

    def ended(self, reason: str, listener: str = "one", number: int = 1) -> None:
        self["sessions_closed_total", listener, reason, "esxi1"] += number
        self["sessions_open", "esxi1", listener, "esxi1"] -= number

    def failed(self, listener: str, reason: str, upstream: str = "esxi1") -> None:
        self["handshakes_failed_total", upstream, listener, reason, upstream] += 1


def samples(port: int) -> dict[Sample, int]:
    """Return every sample of the metrics of sessions that is not 0."""
    found = {}
    for family in text_string_to_metric_families(shown(port)):
        for sample in family.samples:
            if sample.name in COUNTED and sample.value:
                labels = (sample.labels[name] for name in sorted(sample.labels))
                found[(sample.name.removeprefix("esxiproxy_"), *labels)] = int(sample.value)
                assert sample.value == int(sample.value)
    return found


def equal(port: int, expected: Expected) -> None:
    """Wait until the metrics are those of the load, no sample more and none less."""
    wanted = {sample: number for sample, number in expected.items() if number}
    last: dict[Sample, int] = {}

    def are_equal() -> bool:
        last.clear()
        last.update(samples(port))
        return last == wanted

    try:
        until(are_equal, "the metrics are those of the load", 20)
    except AssertionError as problem:
        differing = {
            sample: (wanted.get(sample, 0), last.get(sample, 0))
            for sample in sorted(wanted.keys() | last.keys())
            if wanted.get(sample, 0) != last.get(sample, 0)
        }
        raise AssertionError(f"{problem}; done and shown: {differing}") from None


# --- the load


def talk(client: Client, number: int) -> tuple[int, int]:
    """Echo frames, and return the bytes of both directions, which differ by the masks."""
    up = down = 0
    for turn in range(number % 3 + 1):
        payload = b"x" * WIDTHS[(number + turn) % len(WIDTHS)]
        client.send_frame(BINARY, payload)
        assert client.recv_frame().payload == payload
        up += len(frame(BINARY, payload, mask=True))
        down += len(frame(BINARY, payload))
    return up, down


Act = Callable[[dict[str, int], int], Expected]
"""One client with its number; it returns what it has done."""


def closes(code: int | None, reason: str) -> Act:
    """Open a console that its client closes with this code."""

    def act(ports: dict[str, int], number: int) -> Expected:
        done = Expected()
        (client,) = opened(ports["one"])
        with client:
            done.console()
            done.relayed(*talk(client, number))
            client.send_close(code)
            assert receives_close(client)
            client.recv_eof()
        done.ended(reason)
        return done

    return act


def leaves(how: Callable[[Client], None]) -> Act:
    """Open a console whose client leaves without a Close."""

    def act(ports: dict[str, int], number: int) -> Expected:
        done = Expected()
        (client,) = opened(ports["one"])
        done.console()
        done.relayed(*talk(client, number))
        how(client)
        done.ended("ClientLost")
        return done

    return act


def refused(listener: str, status: int, error: str, upstream: str = "esxi1", limit: str = "") -> Act:
    """Make an opening handshake that fails."""

    def act(ports: dict[str, int], number: int) -> Expected:
        with Client(ports[listener], timeout=30) as client:
            assert client.ask("/elsewhere" if status == 404 else TARGET, ["binary"]).status == status
        done = Expected()
        done.failed(listener, error, upstream)
        if limit:
            done["refusals_total", limit] += 1
        return done

    return act


def asks(ports: dict[str, int], number: int) -> Expected:
    """Send a request that is no upgrade."""
    with Client(ports["one"], timeout=30) as client:
        client.get(TARGET)
        assert client.recv_answer()[0].status == 426
    return Expected({("http_requests_total", "4xx", "one", ""): 1})


LOAD: dict[str, tuple[int, Act]] = {
    "closed normally": (150, closes(1000, "normal")),
    "closed as going away": (40, closes(1001, "going_away")),
    "closed with a code of an application": (30, closes(3000, "application_code")),
    "closed with a code of an error": (20, closes(1011, "error_code")),
    "closed without a code": (10, closes(None, "no_code")),
    "reset by the client": (60, leaves(Client.reset)),
    "left by the client": (60, leaves(Client.drop)),
    "refused by a limit": (50, refused("small", 503, "LimitReached", "", "max_sessions")),
    "without a route": (40, refused("routed", 404, "RouteNotFound", "")),
    "to a host that is down": (30, refused("down", 502, "UpstreamRefused", "esxi2")),
    "no upgrades": (10, asks),
}
SESSIONS = 500


def run(ports: dict[str, int], expected: Expected, part: int = 1) -> None:
    """Run the load, or a part of it, and add what it has done."""
    acts = [act for number, act in LOAD.values() for _ in range(number)]
    assert len(acts) == SESSIONS
    # Neighbours in the order are of different kinds.
    mixed = [acts[place * 137 % SESSIONS] for place in range(SESSIONS)][::part]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in pool.map(lambda pair: pair[1](ports, pair[0]), enumerate(mixed)):
            expected.update(done)


def hold(port: int, count: int, expected: Expected, listener: str = "one") -> list[Client]:
    """Open consoles that stay, each with some bytes."""
    clients = opened(port, count)
    for number, client in enumerate(clients):
        expected.console(listener)
        expected.relayed(*talk(client, number), listener)
    return clients


def receives_close(client: Client) -> bool:
    """Return whether the next frame behind the pings is a Close."""
    while (opcode := client.recv_frame().opcode) == PING:
        pass
    return opcode == CLOSE


def end(clients: list[Client], expected: Expected, listener: str = "one") -> None:
    """Close consoles normally."""
    for client in clients:
        client.send_close()
    for client in clients:
        assert receives_close(client)
        client.close()
        expected.ended("normal", listener)


# --- the tests


@pytest.fixture
def down() -> Iterator[int]:
    """Return the port of a host that refuses connections."""
    with dead_port() as port:
        yield port


def text(upstream: EchoUpstream, down: int, **proxy: object) -> str:
    return f"[admin]\nprobe_listen = {FREE}\n" + config.ini(
        config.listener("one", max_sessions="off"),
        config.listener("small", max_sessions=ROOM),
        config.listener("routed", upstream=None, router="paths"),
        config.listener("down", upstream="esxi2"),
        config.router("paths", "static", more="match.tickets = path:/ticket -> esxi1"),
        config.upstream(upstream.port),
        config.upstream(down, "esxi2"),
        **{"max_connections": "off", "max_sessions_per_console": "off", "max_sessions": "off", **proxy},
    )


def living(clients: list[Client]) -> list[Client]:
    """Return the open consoles, without those of a killed worker."""
    found = [client for client in clients if client.is_silent(0.05)]
    for client in clients:
        if client not in found:
            client.close()
    return found


def check(text: str) -> None:
    """Check the exposition with promtool."""
    promtool = need("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(),
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_500_sessions_over_2_workers_a_kill_and_a_reload(upstream: EchoUpstream, down: int) -> None:
    """The load, then SIGKILL under open consoles, a reload with open consoles, and more load."""
    expected = Expected()
    with Crew(text(upstream, down, workers=2, drain_timeout="60s")) as crew:
        probe, ports, workers = port_of(crew, "probe_listen"), crew.ports, crew.workers()
        full = hold(ports["small"], ROOM, expected, "small")
        run(ports, expected)
        equal(probe, expected)
        opened_total = total(probe, "sessions_opened_total")
        assert total(probe, "handshake_seconds_count", phase="opened") == opened_total == 380

        clients = hold(ports["one"], 40, expected)
        equal(probe, expected)  # the bytes of open consoles as well, so that none are missing below
        lost = [held(ports[name], workers)[0] for name in ("one", "small")]
        assert 0 < lost[0] < 40
        os.kill(workers[0], signal.SIGKILL)
        for listener, number in zip(("one", "small"), lost, strict=True):
            expected.ended("WorkerLost", listener, number)
        equal(probe, expected)
        until(lambda: crew.log().count("is ready\n") == 1, "another worker has started")
        clients, full = living(clients), living(full)
        assert [len(clients), len(full)] == [40 - lost[0], ROOM - lost[1]]

        before = crew.workers()
        reloaded(crew)
        equal(probe, expected)
        end(clients, expected)
        end(full, expected, "small")
        until(lambda: all(map(gone, before)), "the old workers have ended")
        equal(probe, expected)

        full = hold(ports["small"], ROOM, expected, "small")
        run(ports, expected, part=5)
        end(full, expected, "small")
        equal(probe, expected)
        assert total(probe, "sessions_open") == 0
        check(shown(probe))
        crew.assert_clean()


def test_500_sessions_in_one_process_and_a_reload(upstream: EchoUpstream, down: int) -> None:
    """A single process without a master counts in memory."""
    expected = Expected()
    with Reloaded(text(upstream, down)) as proxy:
        probe = port_of(proxy, "probe_listen")
        full = hold(proxy.ports["small"], ROOM, expected, "small")
        run(proxy.ports, expected)
        equal(probe, expected)
        proxy.reload()
        equal(probe, expected)
        run(proxy.ports, expected, part=5)
        end(full, expected, "small")
        equal(probe, expected)
        assert total(probe, "sessions_open") == 0
        check(shown(probe))
        proxy.assert_clean()
