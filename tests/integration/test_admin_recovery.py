"""The admin process is killed under load: nothing is lost, and it is back soon with the same numbers."""

from __future__ import annotations

import http.client
import os
import signal
import statistics
import time
from typing import Any

from tests.support import config
from tests.support.admin_people import FREE, AdminClient, port_of
from tests.support.arrivals import Arrivals
from tests.support.crowd import Crew, EchoUpstream, echoes, let_go, opened
from tests.support.programs import until
from tests.support.scrape import total
from tests.support.websocket_peers import Client

KILLS = 3
HELD = 60
WITHIN, SOON = 2.0, 5.0
"""Seconds within which it is back once at least, and as a rule: the cores may have other work."""


def asked(people: AdminClient, path: str) -> Any:
    """Return the value of an answer, None while there is none."""
    try:
        return people.get(path)
    except (OSError, http.client.HTTPException):
        return None


def lasting(people: AdminClient, clients: list[Client]) -> dict[str, tuple[str, str, float]] | None:
    """Return the consoles that stay by their ids: their principal, their process and their beginning."""
    answer = asked(people, "/sessions?limit=500")
    ports = {f"127.0.0.1:{client.stream.getsockname()[1]}" for client in clients}
    if answer is None:
        return None
    found = {
        row["id"]: (row["client"], row["worker"], row["since"])
        for row in answer["sessions"]
        if row["client"] in ports
    }
    return found if len(found) == len(clients) else None


def test_its_death_costs_nothing_and_it_is_back_with_the_same_numbers(upstream: EchoUpstream) -> None:
    admin = f"[admin]\nlisten = {FREE}\nprobe_listen = {FREE}\n"
    text = admin + config.ini(
        config.listener(max_sessions="off"),
        config.upstream(upstream.port),
        workers=2,
        max_connections="off",
        max_sessions_per_console="off",
    )
    with Crew(text) as crew:
        people, workers = AdminClient(port_of(crew)), crew.workers()
        probe = port_of(crew, "probe_listen")
        clients = opened(crew.ports["one"], HELD)
        before = until(lambda: lasting(people, clients), "the consoles are listed")
        arrivals, took = Arrivals(crew.ports["one"]), []
        with arrivals.running():
            for _ in range(KILLS):
                (victim,), count = crew.admins(), arrivals.opened
                opened_before = total(probe, "sessions_opened_total")
                os.kill(victim, signal.SIGKILL)
                since = time.monotonic()
                after = until(lambda: lasting(people, clients), "it answers again", 30)
                took.append(time.monotonic() - since)
                assert after == before and crew.admins() != [victim]
                assert total(probe, "sessions_opened_total") >= opened_before >= HELD
                until(lambda count=count: arrivals.opened > count, "consoles open meanwhile")
        print(f"it is back after {', '.join(f'{each:.2f} s' for each in took)}")
        print(f"{arrivals.opened} consoles were opened meanwhile, refused: {arrivals.refused}")
        assert min(took) < WITHIN and statistics.median(took) < SOON, took
        assert arrivals.refused == [] and arrivals.opened > KILLS and all(map(echoes, clients))
        assert total(probe, "sessions_opened_total") == HELD + arrivals.opened
        until(
            lambda: total(probe, "sessions_closed_total", reason="normal") == arrivals.opened,
            "all are counted",
        )
        assert total(probe, "sessions_open") == HELD and total(probe, "handshakes_failed_total") == 0
        assert crew.workers() == workers and "WorkerLost" not in crew.log()
        until(lambda: people.get("/status")["sessions"] == HELD, "the processes have reported")
        status = people.get("/status")
        assert status["workers"] == 2 and status["ready"]
        let_go(clients)
        crew.assert_clean()
