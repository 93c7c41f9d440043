"""Several workers behind one port: the balance of their connections, and crashes."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.crowd import (
    Crew,
    echoes,
    held,
    let_go,
    opened,
)
from tests.support.programs import until
from tests.support.workers import Text, expired, published, records


@pytest.mark.parametrize("workers", [2, 4])
def test_consoles_are_spread_evenly(text: Text, workers: int) -> None:
    """After a thousand arrivals, one by one and fifty at once, no worker has over 1.2 times the mean."""
    with Crew(text(workers)) as crew:
        port, pids = crew.ports["one"], crew.workers()
        assert len(pids) == workers
        clients = []
        for _ in range(10):
            clients += [opened(port)[0] for _ in range(50)]
            clients += opened(port, 50)
        shares = held(port, pids)
        assert sum(shares) == len(clients) == 1000
        assert max(shares) <= 1.2 * 1000 / workers, shares
        assert all(echoes(client) for client in clients[::50])
        let_go(clients)
        until(lambda: sum(held(port, pids)) == 0, "everybody has gone")
        crew.assert_clean()


def test_a_worker_that_hangs_is_not_waited_for(text: Text) -> None:
    """A stopped worker keeps its consoles. New ones go to the others, also to those with more consoles."""
    with Crew(text()) as crew:
        port, (stopped, other) = crew.ports["one"], crew.workers()
        clients = opened(port, 20)
        os.kill(stopped, signal.SIGSTOP)
        try:
            clients += [opened(port)[0] for _ in range(20)]
            before, after = held(port, [stopped, other])
            assert before + after == 40 and before <= 12
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert all(echoes(client) for client in clients)
        let_go(clients)


# crashes


def test_a_worker_that_is_killed_takes_its_own_consoles_only(text: Text) -> None:
    """Other consoles continue, new ones open at once, the worker is replaced, and lost ones are recorded."""
    with Crew(text()) as crew:
        port, (victim, survivor) = crew.ports["one"], crew.workers()
        clients = opened(port, 40)
        lost = held(port, [victim])[0]
        assert 0 < lost < 40
        published(crew, 40)
        os.kill(victim, signal.SIGKILL)
        let_go(opened(port, 5))
        assert sum(echoes(client) for client in clients) == 40 - lost
        until(lambda: len(records(crew)) == lost, "each lost session has its record")
        assert len(set(records(crew))) == lost
        until(lambda: crew.log().count("is ready\n") == 1, "another worker has come")
        replaced = crew.workers()
        assert survivor in replaced and victim not in replaced and len(replaced) == 2
        clients += opened(port, 40)
        assert min(held(port, replaced)) > 10
        assert "worker 0 killed by SIGKILL" in crew.log() or "worker 1 killed by SIGKILL" in crew.log()
        let_go(clients)
        crew.assert_clean()


def lapsed(crew: Crew, victim: int, total: int, hangs: int) -> None:
    """Stop a worker until its lease has ended: of all consoles, those that hang are listed no longer."""
    published(crew, total)
    os.kill(victim, signal.SIGSTOP)
    expired(crew)
    published(crew, total - hangs)


def test_a_worker_that_hangs_for_longer_than_its_lease_has_its_consoles_recorded(text: Text) -> None:
    """The sessions are not recorded while the worker may continue, and all of them are when it is dead."""
    with Crew(text()) as crew:
        port, (victim, _survivor) = crew.ports["one"], crew.workers()
        clients = opened(port, 20)
        hangs = held(port, [victim])[0]
        lapsed(crew, victim, 20, hangs)
        assert records(crew) == []
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(records(crew)) == hangs, "each lost session has its record")
        assert len(set(records(crew))) == hangs
        assert sum(echoes(client) for client in clients) == 20 - hangs
        let_go(clients)
        crew.assert_clean()


def test_a_worker_that_resumes_after_its_lease_loses_nothing(text: Text) -> None:
    """The consoles of the worker are listed again, and none of them is recorded as lost."""
    with Crew(text()) as crew:
        port, (victim, _survivor) = crew.ports["one"], crew.workers()
        clients = opened(port, 20)
        hangs = held(port, [victim])[0]
        try:
            lapsed(crew, victim, 20, hangs)
        finally:
            os.kill(victim, signal.SIGCONT)
        published(crew, 20)
        assert all(map(echoes, clients))
        let_go(clients)
        published(crew, 0)
        assert crew.stop(30) == 0
        assert "WorkerLost" not in crew.log()
        crew.assert_clean()


def test_a_crash_loop_backs_off_and_is_logged(text: Text) -> None:
    """The restart of a worker that crashes early is delayed twice as long each time. The other one serves."""
    with Crew(text()) as crew:
        (first, _other), port = crew.workers(), crew.ports["one"]
        for delay in ("0.1", "0.2", "0.4", "0.8"):
            victim = next(pid for pid in crew.workers() if pid != _other)
            os.kill(victim, signal.SIGKILL)
            until(lambda text=delay: f"is started again in {text} s" in crew.log(), f"it waits {delay} s")
            let_go(opened(port))
            until(lambda: len(crew.workers()) == 2, "the next one is there")
        errors = [line for line in crew.log().splitlines() if "#error" in line]
        assert sum("killed by SIGKILL" in line for line in errors) == 4
        assert _other in crew.workers() and first not in crew.workers()
